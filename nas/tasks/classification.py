"""Classification of a whole image: cross-entropy; accuracy. A target of -1 is ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.core import Metric
from nas.core.task import NO_CLASS, TaskKindName
from nas.tasks.kind import ImageArray, Meter, class_entropy, kl_divergence, ratio, valid_classes


class ClassificationMeter(Meter):
    """Counts of right and of all labelled images."""

    def _count(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        valid = valid_classes(target, prediction.shape[1])
        return {"right": torch.logical_and(prediction.argmax(dim=1) == target, valid).sum(), "count": valid.sum()}

    def _result(self, sums: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        accuracy = ratio(float(sums["right"]), float(sums["count"])) if sums else float("nan")
        return {"error": 1 - accuracy, "accuracy": 100 * accuracy}


class Classification:
    """One class per image; predictions are logits (b, classes)."""

    kind: TaskKindName = "classification"
    metrics: tuple[Metric, ...] = (Metric("accuracy", "%", True),)
    error_unit = ""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy, in nats."""
        return class_entropy(prediction, target)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return KL(teacher || student), in nats: the cross-entropy on the teacher's soft labels, less their entropy."""
        return kl_divergence(student, teacher)

    def labelled(self, target: Tensor, outputs: int) -> Tensor:
        """Return how many images have a class."""
        return valid_classes(target, outputs).sum()

    def summary(self, target: Tensor, outputs: int) -> Tensor:
        """Return 1 for the image's class and 0 for the others, shape (n, outputs)."""
        one_hot = functional.one_hot(target.long().clamp(min=0), outputs).double()
        return torch.where((target == NO_CLASS)[:, None], torch.nan, one_hot)

    def meter(self) -> ClassificationMeter:
        """Return an empty meter."""
        return ClassificationMeter()

    def draw(
        self, values: NDArray[Any], limits: tuple[float, float] = (0.0, 10.0), outputs: int | None = None
    ) -> ImageArray | None:
        """Return None: a class has no picture."""
        return None

    def describe(self, values: NDArray[Any], labels: Sequence[str] = (), outputs: int | None = None) -> str:
        """Return the class, with its probability where `values` are logits (classes,); a dash where it is ignored."""
        array = np.asarray(values, dtype=float)
        if array.ndim == 0:
            return _name(int(array), labels) if array != NO_CLASS else "–"
        share = np.exp(array - array.max())
        return f"{_name(int(array.argmax()), labels)} ({100 * share.max() / share.sum():.0f} %)"


def _name(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else str(index)
