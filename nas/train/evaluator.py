"""The accuracy of a subnet: its slices, batch norm recalibrated, and a split of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from nas.core import ArchConfig, Task
from nas.data import MultiTaskData, Split, batches
from nas.supernet import MultiTaskNet, Supernet, recalibrate
from nas.tasks import evaluation_metrics, task_kind

BATCH_SIZE = 64
SplitName = Literal["train", "val", "test"]


class Evaluator:
    """Evaluates subnets of one supernet.

    The calibration images are the same for every subnet and in every process: what is exported later is what was evaluated.

    Args:
        supernet: Trained weights.
        data: On the supernet's device.
        calibration_images: Training images that re-estimate batch norm, evenly spread over the split.
    """

    def __init__(self, supernet: Supernet, data: MultiTaskData, calibration_images: int) -> None:
        self.supernet, self.data = supernet, data
        count = calibration_count(calibration_images, len(data.train))
        self._calibration = data.train.subset([i * len(data.train) // count for i in range(count)])

    def module(self, arch: ArchConfig) -> MultiTaskNet:
        """Return the standalone subnet, recalibrated, in eval mode."""
        module = self.supernet.extract(arch)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        recalibrate(module, (x for x, _ in self._batches(self._calibration)))
        return module

    def evaluate(self, arch: ArchConfig, split: SplitName = "val") -> dict[str, float]:
        """Return every metric of every task on a split: ``error.TASK``, ``miou.TASK`` and so on."""
        return evaluate_module(self.module(arch), getattr(self.data, split), self.data.tasks)

    def _batches(self, split: Split) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for x, targets in batches(split, self.data.tasks, BATCH_SIZE, None):
            yield x.contiguous(memory_format=torch.channels_last), targets


def calibration_count(asked: int, images: int) -> int:
    """Return how many of a split's images recalibrate batch norms: no last batch of one image, unless it is the only one.

    A batch of one image may hold one value per channel, which has no variance.
    """
    count = min(asked, images)
    return count - 1 if count > 1 and count % BATCH_SIZE == 1 else count


@torch.no_grad()
def evaluate_module(module: MultiTaskNet, split: Split, tasks: tuple[Task, ...]) -> dict[str, float]:
    """Return every metric of every task of a network in eval mode."""
    meters = {task.name: task_kind(task.kind).meter() for task in tasks}
    for x, targets in batches(split, tasks, BATCH_SIZE, None):
        outputs = module(x.contiguous(memory_format=torch.channels_last))
        for name, meter in meters.items():
            meter.update(outputs[name], targets[name])
    metrics: dict[str, float] = {}
    for task in tasks:
        metrics |= evaluation_metrics(task, meters[task.name])
    return metrics
