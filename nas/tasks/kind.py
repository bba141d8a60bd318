"""What a task kind supplies, and the meter that all kinds build on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.core import Metric, Task
from nas.core.task import NO_CLASS, TaskKindName

ImageArray = NDArray[np.uint8]
BROKEN = "not finite"  # the sum of predicted values that are no numbers


class Meter:
    """Sums over batches, and the metrics that follow from them.

    Training and evaluation call `update` once per batch, on any device; workers send `state` to the one that calls `add`;
    `result` comes last and may be called again. Since everything is a sum, any split of the images into batches and
    workers gives the same result. A network that predicted NaN or infinity anywhere has no metrics: what an argmax or a
    comparison makes of NaN looks like a number.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: the output of a head, and the target in the convention of `nas.data`."""
        prediction = prediction.detach().float()
        self.add({**self._count(prediction, target), BROKEN: (~torch.isfinite(prediction)).sum()})

    def state(self) -> dict[str, Tensor]:
        """Return the sums, float64, on the CPU."""
        return {name: total.cpu() for name, total in self._sums.items()}

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add the sums of another meter of the same task."""
        for name, value in state.items():
            value = value.double()
            self._sums[name] = self._sums[name] + value.to(self._sums[name].device) if name in self._sums else value

    def merge(self, other: Self) -> None:
        """Add everything that `other`, a meter of the same task, has seen."""
        self.add(other.state())

    def result(self) -> dict[str, float]:
        """Return every metric of the kind, and ``error``, which is minimised.

        All are NaN where nothing valid was seen, or where something that was predicted is not finite.
        """
        sums = {name: total.cpu().numpy() for name, total in self._sums.items()}
        broken = float(sums.pop(BROKEN, 0.0))
        found = self._result(sums)
        return dict.fromkeys(found, float("nan")) if broken else found

    def _count(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return what one batch adds to each sum; `prediction` is float32."""
        raise NotImplementedError

    def _result(self, sums: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        """Return the metrics of these sums, which are empty where there was no batch."""
        raise NotImplementedError


class TaskKind(Protocol):
    """Losses, metrics and pictures of one kind of task. Stateless; get one with `nas.tasks.task_kind`.

    A prediction is what the head gives, in any floating-point type: logits (b, classes) or (b, classes, h, w), metres
    (b, 1, h, w), or vectors of any length (b, 3, h, w), at the target's height and width. Targets are as `nas.data.batches`
    yields them. Losses compute in float32, and use no operation that waits for the device or whose shape depends on
    values, so that a CUDA graph can capture them.

    Attributes:
        kind: Its name.
        metrics: What `meter` measures, the headline first.
        error_unit: Unit of ``error``.
    """

    kind: TaskKindName
    metrics: tuple[Metric, ...]
    error_unit: str

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over valid entries, a scalar; 0, with a gradient of zero, where none is valid."""
        ...

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return how far the student's prediction is from the teacher's, on the scale of `loss`; no gradient to the teacher."""
        ...

    def labelled(self, target: Tensor, outputs: int) -> Tensor:
        """Return how many entries of a target are to be predicted, a scalar: those that `loss` is the mean over."""
        ...

    def summary(self, target: Tensor, outputs: int) -> Tensor:
        """Return what each target is in a few numbers, shape (n, m), NaN where an image says nothing of the task.

        Args:
            target: Of n images, as `nas.data` holds them.
            outputs: Of the task.
        """
        ...

    def meter(self) -> Meter:
        """Return a meter that has seen nothing."""
        ...

    def draw(
        self, values: NDArray[Any], limits: tuple[float, float] = (0.0, 10.0), outputs: int | None = None
    ) -> ImageArray | None:
        """Return a picture (h, w, 3) of one image's prediction or target (no batch axis); None where the kind has none.

        Args:
            values: A prediction, or a target.
            limits: Metres that depth's colours span, the same for a prediction and its truth.
            outputs: Of the task, which tell what a target of classes ignores; None where there are at most 255 classes.
        """
        ...

    def describe(self, values: NDArray[Any], labels: Sequence[str] = (), outputs: int | None = None) -> str:
        """Return one short line on one image's prediction or target; `outputs` as in `draw`."""
        ...


def evaluation_metrics(task: Task, meter: Meter) -> dict[str, float]:
    """Return a meter's result under the names that an `Evaluation` has: ``error.TASK``, ``miou.TASK`` and so on."""
    return {f"{name}.{task.name}": value for name, value in meter.result().items()}


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of `values` where `valid`, both of one shape; 0 where nowhere. Invalid values have to be finite."""
    return (values * valid).sum() / valid.sum().clamp(min=1)


def same_pixels(prediction: Tensor, target: Tensor, channels: int | None = None) -> None:
    """Check that a dense prediction (b, c, h, w) and a target (b, ..., h, w) are of the same images and pixels.

    Raises:
        ValueError: They are not, or the prediction has other than `channels` channels.
    """
    same = prediction.ndim == 4 and len(prediction) == len(target) and prediction.shape[-2:] == target.shape[-2:]
    if not same or (channels is not None and prediction.shape[1] != channels):
        raise ValueError(
            f"a prediction has its target's images and pixels{f', and {channels} channels' if channels else ''}: "
            f"got {tuple(prediction.shape)} for {tuple(target.shape)}"
        )


def kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over images and pixels of KL(teacher || student), from logits whose classes are in dimension 1."""
    log_student = student.float().log_softmax(dim=1)
    log_teacher = teacher.detach().float().log_softmax(dim=1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1).mean()


def class_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy over the entries that hold a class, in nats; 0 where none does.

    Args:
        prediction: Logits (b, classes, ...).
        target: Classes (b, ...); whatever is none is ignored, as a meter does.
    """
    valid = valid_classes(target, prediction.shape[1])
    target = torch.where(valid, target, NO_CLASS).long()
    total = functional.cross_entropy(prediction.float(), target, ignore_index=NO_CLASS, reduction="sum")
    return total / valid.sum().clamp(min=1)


def ratio(part: float, whole: float) -> float:
    """Return part / whole; NaN where the whole is 0."""
    return float(part / whole) if whole else float("nan")


def valid_classes(target: Tensor, classes: int) -> Tensor:
    """Return a mask of the entries that hold a class: what is to be ignored is outside of [0, classes)."""
    return torch.logical_and(target >= 0, target < classes)
