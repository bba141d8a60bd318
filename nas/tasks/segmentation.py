"""Semantic segmentation: cross-entropy per pixel; mean intersection over union.

What is no class is ignored: 255, or -1 where there are more than 255 classes (`nas.core.Task.ignored`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Metric
from nas.core.task import NO_CLASS_BYTE, TaskKindName, ignored_class
from nas.tasks.colours import class_colours
from nas.tasks.kind import ImageArray, Meter, class_entropy, kl_divergence, ratio, same_pixels, valid_classes


class SegmentationMeter(Meter):
    """One confusion matrix over all pixels: rows are true classes, columns predicted ones."""

    def _count(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        same_pixels(prediction, target)
        classes = prediction.shape[1]
        cell = target.long() * classes + prediction.argmax(dim=1)
        cell = torch.where(valid_classes(target, classes), cell, classes * classes)  # ignored pixels in a bin of their own
        counts = torch.bincount(cell.flatten(), minlength=classes * classes + 1)[:-1]
        return {"confusion": counts.view(classes, classes)}

    def _result(self, sums: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        confusion = sums.get("confusion", np.zeros((1, 1)))
        right = confusion.diagonal()
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
        seen = union > 0  # a class that is neither there nor predicted has no intersection over union
        miou = float((right[seen] / union[seen]).mean()) if seen.any() else float("nan")
        accuracy = ratio(float(right.sum()), float(confusion.sum()))
        return {"error": 1 - miou, "miou": 100 * miou, "pixel_accuracy": 100 * accuracy}


class Segmentation:
    """One class per pixel; predictions are logits (b, classes, h, w)."""

    kind: TaskKindName = "segmentation"
    metrics: tuple[Metric, ...] = (Metric("miou", "%", True), Metric("pixel_accuracy", "%", True))
    error_unit = ""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy, in nats per labelled pixel."""
        same_pixels(prediction, target)
        return class_entropy(prediction, target)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return KL(teacher || student), in nats per pixel."""
        return kl_divergence(student, teacher)

    def labelled(self, target: Tensor, outputs: int) -> Tensor:
        """Return how many pixels have a class."""
        return valid_classes(target, outputs).sum()

    def summary(self, target: Tensor, outputs: int) -> Tensor:
        """Return the share of each class among the labelled pixels, shape (n, outputs)."""
        counts = torch.stack([(target == label).flatten(1).sum(dim=1) for label in range(outputs)], dim=1).double()
        return counts / counts.sum(dim=1, keepdim=True)  # 0 / 0 is NaN

    def meter(self) -> SegmentationMeter:
        """Return an empty meter."""
        return SegmentationMeter()

    def draw(
        self, values: NDArray[Any], limits: tuple[float, float] = (0.0, 10.0), outputs: int | None = None
    ) -> ImageArray | None:
        """Return a colour per class of logits (classes, h, w) or classes (h, w); ignored pixels are dark grey."""
        classes, valid = _classes(values, outputs)
        return class_colours(classes, valid)

    def describe(self, values: NDArray[Any], labels: Sequence[str] = (), outputs: int | None = None) -> str:
        """Return the three most frequent classes with their shares of the labelled pixels."""
        classes, valid = _classes(values, outputs)
        if not valid.any():
            return "no labels"
        found, counts = np.unique(classes[valid], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        names = {int(c): labels[c] if c < len(labels) else str(c) for c in found}
        return ", ".join(f"{names[int(found[i])]} {100 * counts[i] / counts.sum():.0f} %" for i in order)


def _classes(values: NDArray[Any], outputs: int | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the class of each pixel, (h, w), and which of them hold one: all of a prediction do."""
    array = np.asarray(values)
    if array.ndim == 3:
        return array.argmax(axis=0), np.ones(array.shape[1:], dtype=bool)
    return array.astype(np.int64), array != ignored_class("segmentation", outputs or NO_CLASS_BYTE)
