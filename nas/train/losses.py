"""The losses of an epoch: their means, and the first step in which one was no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.train.parallel import Group

GRADIENT = "the gradient"


@dataclass(frozen=True, slots=True)
class Broken:
    """A step whose loss or gradient is not finite.

    Attributes:
        step: Of the epoch, from 0.
        what: ``the loss of task NAME``, or the gradient where the teacher's losses were finite.
    """

    step: int
    what: str


class EpochLosses:
    """Collects what each step lost, on the device, so that nothing waits for it until it is asked.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tuple(tasks)
        self._losses: list[Tensor] = []  # per step (tasks,)
        self._labelled: list[Tensor] = []  # per step (tasks,)
        self._norms: list[Tensor] = []  # per step ()
        self._checked = 0

    def add(self, losses: Tensor, labelled: Tensor, norm: Tensor) -> None:
        """Note a step.

        Args:
            losses: Mean over the labelled entries of each task, shape (tasks,).
            labelled: Number of those entries, shape (tasks,).
            norm: Of the whole gradient, a scalar.
        """
        self._losses.append(losses.detach())
        self._labelled.append(labelled.detach())
        self._norms.append(norm.detach())

    def broken(self, group: Group) -> Broken | None:
        """Return the first step since the last call that was not finite in any process, the same in all of them."""
        losses, norms = torch.stack(self._losses[self._checked :]), torch.stack(self._norms[self._checked :])
        wrong = (~torch.isfinite(torch.cat([losses, norms[:, None]], dim=1))).float()  # (steps, tasks + 1)
        group.largest(wrong)
        start, self._checked = self._checked, len(self._losses)
        if not bool(wrong.any()):
            return None
        step = int(wrong.any(dim=1).float().argmax())
        which = int(wrong[step].argmax())
        return Broken(start + step, f"the loss of task {self._tasks[which]}" if which < len(self._tasks) else GRADIENT)

    def means(self) -> dict[str, float]:
        """Return each task's mean loss over every labelled entry of the epoch; NaN where there was none."""
        labelled = torch.stack(self._labelled).double()
        total = (torch.stack(self._losses).double() * labelled).sum(dim=0)
        count = labelled.sum(dim=0)
        found = torch.where(count > 0, total / count, math.nan)
        return dict(zip(self._tasks, found.tolist(), strict=True))
