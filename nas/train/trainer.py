"""Trains a supernet, an epoch at a time, from a checkpoint or from nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from nas.core import ArchConfig, TrainingSpec
from nas.core.json_text import number
from nas.data import MultiTaskData, batches, shard
from nas.supernet import SpaceDefinition, Supernet
from nas.train.balancing import make_balancer
from nas.train.checkpoint import load_checkpoint, restore_training, save_checkpoint, training_tensors
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator
from nas.train.graphs import CapturedPasses
from nas.train.parallel import Group
from nas.train.sandwich import Sandwich, step_archs
from nas.train.start import start_at_mean

VALIDATIONS = 10  # over a training run
CAPTURED_SUBNETS = 64  # random subnets on CUDA: each is captured once, and steps draw among them
GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch gave.

    Attributes:
        epoch: Epochs done.
        epochs: Epochs in all.
        step: Optimizer steps done.
        curves: Name to value: ``loss.TASK`` of the teacher, ``learning_rate``, ``val.largest.error.TASK``.
        checkpoint: First digits of the SHA-256 of the checkpoint written, if one was.
    """

    epoch: int
    epochs: int
    step: int
    curves: dict[str, float]
    checkpoint: str | None = None


class Trainer:
    """A training run. `run_epoch` until `done`; every epoch ends with a checkpoint, from which a new trainer goes on.

    An epoch's batches and subnets depend on the seed and on its number alone, so that a resumed run sees what the killed one
    would have seen.

    Args:
        definition: The space; one of a single architecture trains that network alone.
        data: All of it; this process trains on its share.
        spec: The recipe.
        seed: Of the job.
        folder: Where ``checkpoint.safetensors`` is written and found; None keeps nothing.
        rank: Which training process this is.
        world: How many there are.
        meeting: File at which several processes meet.
    """

    def __init__(
        self,
        definition: SpaceDefinition,
        data: MultiTaskData,
        spec: TrainingSpec,
        seed: int,
        folder: Path | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        meeting: Path | None = None,
    ) -> None:
        self.spec, self.seed = spec, seed
        self.compute = choose_compute(spec)
        self.group = Group(rank, world, meeting, self.compute.device)
        device = self.compute.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(definition)
        start_at_mean(self.supernet.shared, data)
        self.supernet.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.balancer = make_balancer(spec.balancing, definition.tasks).to(device)
        self.model = nn.ModuleDict({"supernet": self.supernet, "balancer": self.balancer})
        self.data = data.to(device)
        self._share = shard(self.data.train, rank, world, even=True)
        self._batch_size = min(max(1, spec.batch_size // world), len(self._share))
        self.steps_per_epoch = max(1, len(self._share) // self._batch_size)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
        )
        self.schedule = OneCycleLR(self.optimizer, spec.learning_rate, total_steps=spec.epochs * self.steps_per_epoch + 1)
        self.sandwich = Sandwich(self.supernet, self.balancer, spec, self.compute)
        self._captured: CapturedPasses | None = None
        self._rng_pool = np.random.default_rng([seed, 1])
        space = definition.space
        self._pool = [space.sample(self._rng_pool) for _ in range(CAPTURED_SUBNETS)] if device.type == "cuda" else None
        self.epoch = 0
        self.last: EpochReport | None = None  # of the last epoch, also one that a former process trained
        self.path = folder / "checkpoint.safetensors" if folder else None
        if self.path and self.path.exists():
            self._restore(self.path)
        else:
            self.balancer.prepare(data)
        self.group.broadcast(self.model.state_dict().values())

    @property
    def done(self) -> bool:
        """Whether every epoch was trained."""
        return self.epoch >= self.spec.epochs

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.epoch * self.steps_per_epoch

    def run_epoch(self) -> EpochReport:
        """Train one epoch, write a checkpoint (the first process does), and say what came of it."""
        losses: list[dict[str, float]] = []
        generator = torch.Generator(self.compute.device).manual_seed(_mix(self.seed, self.epoch, self.group.rank))
        for index, ((x, targets), archs) in enumerate(
            zip(
                batches(self._share, self.data.tasks, self._batch_size, generator, augment=self.spec.augment),
                self._archs(),
                strict=False,
            )
        ):
            self.optimizer.zero_grad(set_to_none=self._captured is None)
            self.sandwich.load(x, targets)
            for arch in archs:
                self._pass(arch)
            self.group.average(self.model.parameters())
            nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
            self.optimizer.step()
            self.schedule.step()
            if index % max(1, self.steps_per_epoch // 4) == 0:
                losses.append(self.sandwich.losses)  # now and then only, as reading them waits for the device
        self.epoch += 1
        curves = {f"loss.{name}": float(np.mean([row[name] for row in losses])) for name in losses[0]}
        curves["learning_rate"] = float(self.schedule.get_last_lr()[0])
        written = None
        if self.group.rank == 0:
            if self.done or self.epoch % max(1, self.spec.epochs // VALIDATIONS) == 0:
                curves |= self._validate()
            written = self._save(curves)
        self.last = EpochReport(self.epoch, self.spec.epochs, self.step, curves, written)
        return self.last

    def close(self) -> None:
        """Leave the group of processes."""
        self.group.close()

    def _pass(self, arch: ArchConfig) -> None:
        if self.compute.device.type != "cuda":
            self.sandwich.run(arch)
            return
        if self._captured is None:
            self._captured = CapturedPasses(self.sandwich)
        self._captured.run(arch)

    def _archs(self) -> Iterator[list[ArchConfig]]:
        """Yield the subnets of each step of this epoch, the same in every process."""
        space, rng = self.supernet.definition.space, np.random.default_rng([self.seed, self.epoch])
        teacher, smallest = self.supernet.definition.teacher, space.smallest()
        while True:
            random = [
                space.sample(rng) if self._pool is None else self._pool[rng.integers(len(self._pool))]
                for _ in range(self.spec.subnets - 2)
            ]
            yield step_archs(teacher, smallest, random, self.spec.subnets)

    def _validate(self) -> dict[str, float]:
        self.supernet.eval()
        evaluator = Evaluator(self.supernet, self.data, calibration_images=128)
        space = self.supernet.definition.space
        curves: dict[str, float] = {}
        for label, arch in (("largest", space.largest()), ("smallest", space.smallest())):
            metrics = evaluator.evaluate(arch)
            curves |= {f"val.{label}.{name}": value for name, value in metrics.items() if name.startswith("error.")}
            if space.largest() == space.smallest():
                break
        self.supernet.train()
        return curves

    def _save(self, curves: Mapping[str, float]) -> str | None:
        if self.path is None:
            return None
        facts = {"epoch": self.epoch, "step": self.step, "seed": self.seed, "curves": dict(curves)}
        return save_checkpoint(self.path, training_tensors(self.model, self.optimizer), facts)

    def _restore(self, path: Path) -> None:
        tensors, facts = load_checkpoint(path)
        restore_training(self.model, self.optimizer, tensors)
        self.epoch = int(facts["epoch"])
        self.last = EpochReport(
            self.epoch, self.spec.epochs, self.step, {name: number(value) for name, value in facts["curves"].items()}
        )
        # The schedule is a function of the step: it is walked there, not kept.
        self.schedule.last_epoch = self.step - 1
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # or the schedule warns that no step was taken
        self.schedule.step()


def _mix(*numbers: int) -> int:
    """Return a 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
