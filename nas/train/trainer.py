"""Trains a supernet, an epoch at a time, from a checkpoint or from nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from nas.core import ArchConfig, TrainingSpec, UserError
from nas.core.json_text import number
from nas.data import MultiTaskData, batches, shard
from nas.supernet import SpaceDefinition, Supernet
from nas.train.balancing import make_balancer
from nas.train.checkpoint import load_checkpoint, restore_training, save_checkpoint, training_tensors
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator
from nas.train.graphs import CapturedPasses
from nas.train.losses import EpochLosses
from nas.train.parallel import Group
from nas.train.sandwich import Sandwich, step_archs
from nas.train.start import start_at_mean

VALIDATIONS = 10  # over a training run
CHECKS = 4  # of an epoch's losses, besides the one at its end: reading them waits for the device
RETRY_RATE = 0.1  # of the learning rate, once losses were not finite
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
        note: What the user should know of it; an empty string where all went as it should.
    """

    epoch: int
    epochs: int
    step: int
    curves: dict[str, float]
    checkpoint: str | None = None
    note: str = ""


class NotFiniteError(UserError):
    """A step of training lost what is no number."""


class Trainer:
    """A training run. `run_epoch` until `done`; every epoch ends with a checkpoint, from which a new trainer goes on.

    An epoch's batches and subnets depend on the seed and on its number alone, so that a resumed run sees what the killed one
    would have seen.

    An epoch in which a loss or the gradient is not finite is trained once more from where it began, at a tenth of the learning
    rate, which stays so for what is left; where that fails too, training ends.

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
        self.optimizer = torch.optim.AdamW(decayed(self.model, spec.weight_decay), lr=spec.learning_rate, fused=True)
        self.epoch = 0
        self._slowed = 1.0  # factor of the learning rate
        self._set_schedule()
        self.sandwich = Sandwich(self.supernet, self.balancer, spec, self.compute)
        self._captured: CapturedPasses | None = None
        self._rng_pool = np.random.default_rng([seed, 1])
        space = definition.space
        self._pool = [space.sample(self._rng_pool) for _ in range(CAPTURED_SUBNETS)] if device.type == "cuda" else None
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
        """Train one epoch, write a checkpoint (the first process does), and say what came of it.

        Raises:
            NotFiniteError: A loss or the gradient was not finite, also at a lower learning rate.
        """
        start = {name: tensor.clone() for name, tensor in training_tensors(self.model, self.optimizer).items()}
        note = ""
        try:
            losses = self._train_epoch()
        except NotFiniteError as error:
            if self._slowed < 1:
                raise
            note = f"{error}; epoch {self.epoch + 1} is trained again, with {RETRY_RATE:g} of the learning rate from here on"
            self._slowed = RETRY_RATE
            restore_training(self.model, self.optimizer, start)
            self._set_schedule()
            losses = self._train_epoch()
        self.epoch += 1
        curves = {f"loss.{name}": value for name, value in losses.items()}
        curves["learning_rate"] = float(self.schedule.get_last_lr()[0])
        written = None
        if self.group.rank == 0:
            if self.done or self.epoch % max(1, self.spec.epochs // VALIDATIONS) == 0:
                curves |= self._validate()
            written = self._save(curves)
        self.last = EpochReport(self.epoch, self.spec.epochs, self.step, curves, written, note)
        return self.last

    def close(self) -> None:
        """Leave the group of processes."""
        self.group.close()

    def _train_epoch(self) -> dict[str, float]:
        """Take the steps of one epoch and return the teacher's mean loss per task."""
        losses = EpochLosses([task.name for task in self.data.tasks])
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
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
            losses.add(self.sandwich.losses, self.sandwich.labelled, norm)
            self.optimizer.step()
            self.schedule.step()
            if (index + 1) % max(1, self.steps_per_epoch // CHECKS) == 0 or index + 1 == self.steps_per_epoch:
                self._check(losses)
        return losses.means()

    def _check(self, losses: EpochLosses) -> None:
        broken = losses.broken(self.group)
        if broken is None:
            return
        precision = "bf16" if self.compute.bf16 else "fp32"
        remedy = "write training.precision: fp32, " if self.compute.bf16 else ""
        again = "" if self._slowed == 1 else ", after a retry"
        raise NotFiniteError(
            f"training has finite losses: {broken.what} is not finite in step {self.step + broken.step + 1} (epoch "
            f"{self.epoch + 1}, {precision}, learning rate {self.spec.learning_rate * self._slowed:g}{again}); lower "
            f"training.learning_rate, {remedy}or look for extreme targets"
        )

    def _set_schedule(self) -> None:
        """Make the schedule of the learning rate, and walk it to where training stands: it is a function of the step."""
        total = self.spec.epochs * self.steps_per_epoch + 1
        self.schedule = OneCycleLR(self.optimizer, self.spec.learning_rate * self._slowed, total_steps=total)
        if self.step:
            self.schedule.last_epoch = self.step - 1
            self.optimizer._opt_called = True  # type: ignore[attr-defined]  # or the schedule warns that no step was taken
            self.schedule.step()

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
        facts = {"epoch": self.epoch, "step": self.step, "seed": self.seed, "slowed": self._slowed, "curves": dict(curves)}
        return save_checkpoint(self.path, training_tensors(self.model, self.optimizer), facts)

    def _restore(self, path: Path) -> None:
        tensors, facts = load_checkpoint(path)
        restore_training(self.model, self.optimizer, tensors)
        self.epoch = int(facts["epoch"])
        self._slowed = float(facts.get("slowed", 1.0))
        self.last = EpochReport(
            self.epoch, self.spec.epochs, self.step, {name: number(value) for name, value in facts["curves"].items()}
        )
        self._set_schedule()


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups for AdamW: what multiplies decays; biases, norms and log-variances do not.

    Pulling a balancer's log-variance to zero would change the balance, and a norm's scale has no size that matters less.
    """
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _mix(*numbers: int) -> int:
    """Return a 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
