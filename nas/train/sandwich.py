"""One step of a supernet: the teacher, the smallest subnet and some random ones, whose gradients add up.

The sandwich rule and in-place distillation are those of Yu and Huang (Universally Slimmable Networks, ICCV 2019): the teacher,
which there is the largest subnet, learns from the truth, the others also from its predictions. The distillation of the encoder
follows the idea of Aich et al. (Efficient Controllable Multi-Task Architectures, ICCV 2023) that features should not depend on
the width chosen; the distance, between channel-normalised features of the channels both have, is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.core import ArchConfig, TrainingSpec
from nas.supernet import Features, Outputs, Supernet
from nas.tasks import task_kind
from nas.train.balancing import Balancer
from nas.train.compute import Compute


def feature_distance(student: Features, teacher: Features) -> Tensor:
    """Return how far features are apart, a scalar in [0, 4]: 0 where they point the same way at every pixel.

    Args:
        student: Per stage (n, c, h, w).
        teacher: Per stage (n, C, H, W) with C >= c; its first c channels are compared, averaged down to h × w.
    """
    distances = []
    for own, full in zip(student, teacher, strict=True):
        full = full[:, : own.shape[1]].float()
        if full.shape[-2:] != own.shape[-2:]:
            full = F.adaptive_avg_pool2d(full, (own.shape[-2], own.shape[-1]))
        gap = F.normalize(own.float(), dim=1, eps=1e-6) - F.normalize(full, dim=1, eps=1e-6)
        distances.append(gap.square().sum(1).mean())
    return torch.stack(distances).mean()


class Sandwich:
    """Forward and backward passes of the subnets of one step.

    A pass reads the batch and the teacher's predictions from buffers that stay where they are, so that on CUDA it can be
    captured once and replayed (see `nas.train.graphs`).

    Args:
        supernet: In training mode.
        balancer: Turns the tasks' losses into one.
        spec: Weights of the distillations.
        compute: Device and precision.
    """

    def __init__(self, supernet: Supernet, balancer: Balancer, spec: TrainingSpec, compute: Compute) -> None:
        self.supernet, self.balancer, self.spec, self.compute = supernet, balancer, spec, compute
        self.tasks = supernet.definition.tasks
        self.teacher = supernet.definition.teacher
        self._x: Tensor | None = None
        self._targets: dict[str, Tensor] = {}
        self._taught: tuple[Features, Outputs] | None = None
        self._losses: dict[str, Tensor] = {}

    def load(self, x: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Make a batch the one that the next passes read: copied into place on CUDA, referred to elsewhere."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.compute.device.type != "cuda":
            self._x, self._targets = x, dict(targets)
        elif self._x is None or self._x.shape != x.shape:
            self._x, self._targets = x.clone(), {name: target.clone() for name, target in targets.items()}
        else:
            self._x.copy_(x)
            for name, target in targets.items():
                self._targets[name].copy_(target)

    def run(self, arch: ArchConfig) -> None:
        """Add the gradients of one subnet. The teacher goes first."""
        assert self._x is not None, "load a batch first"
        with self.compute.autocast():
            features, outputs = self.supernet.features_and_outputs(self._x, arch)
        losses = {task.name: task_kind(task.kind).loss(outputs[task.name], self._targets[task.name]) for task in self.tasks}
        total: Tensor = self.balancer(losses)
        if arch == self.teacher:
            self._remember(features, outputs, losses)
        elif self._taught is not None:
            total = self._distilled(total, features, outputs, self._taught)
        total.backward()  # type: ignore[no-untyped-call]

    @property
    def losses(self) -> Tensor:
        """The teacher's loss per task in the last step, in the order of the tasks, shape (tasks,)."""
        return torch.stack([self._losses[task.name] for task in self.tasks])

    @property
    def labelled(self) -> Tensor:
        """How many entries of each task the batch has a label for, shape (tasks,)."""
        return torch.stack([task_kind(t.kind).labelled(self._targets[t.name], t.outputs) for t in self.tasks])

    def _distilled(self, total: Tensor, features: Features, outputs: Outputs, teacher: tuple[Features, Outputs]) -> Tensor:
        share = self.spec.distillation
        if share > 0:
            soft = {t.name: task_kind(t.kind).distill(outputs[t.name], teacher[1][t.name]) for t in self.tasks}
            total = (1 - share) * total + share * self.balancer(soft)
        if self.spec.encoder_distillation > 0:
            total = total + self.spec.encoder_distillation * feature_distance(features, teacher[0])
        return total

    def _remember(self, features: Sequence[Tensor], outputs: Outputs, losses: Mapping[str, Tensor]) -> None:
        if self.compute.device.type != "cuda" or self._taught is None:
            self._taught = [f.detach().clone() for f in features], {n: o.detach().clone() for n, o in outputs.items()}
            self._losses = {name: loss.detach().clone() for name, loss in losses.items()}
            return
        for kept, new in zip(self._taught[0], features, strict=True):
            kept.copy_(new.detach())
        for name, new in outputs.items():
            self._taught[1][name].copy_(new.detach())
        for name, new in losses.items():
            self._losses[name].copy_(new.detach())


def step_archs(teacher: ArchConfig, smallest: ArchConfig, random: Sequence[ArchConfig], subnets: int) -> list[ArchConfig]:
    """Return the subnets of a step, the teacher first, the smallest second, then random ones; equal ones run once."""
    chosen = [teacher, smallest, *random][: max(subnets, 1)]
    return list(dict.fromkeys(chosen))
