"""Surface normals: absolute error of unit vectors; mean angle. A target of zero length is ignored.

The absolute error is the loss of ASTMT (Maninis et al., CVPR 2019). Trained from scratch on NYUv2 it gives smaller mean and
median angles than one minus the cosine, whose gradient vanishes where the angle is small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Metric
from nas.core.task import TaskKindName
from nas.tasks.kind import ImageArray, Meter, masked_mean, ratio, same_pixels

BINS_PER_DEGREE = 20  # of the histogram that the median is read from
WITHIN_DEG = 11.25  # Fouhey et al., ICCV 2013
SOFT = 1e-6  # added to a squared length, so that the gradient of a vector of length zero stays finite


def _unit(vectors: Tensor) -> Tensor:
    return vectors * torch.rsqrt(vectors.square().sum(dim=1, keepdim=True) + SOFT)


def _valid(target: Tensor) -> Tensor:
    """Return the mask (b, h, w) of the pixels that have a normal."""
    return target.float().square().sum(dim=1) > 0.25


class NormalsMeter(Meter):
    """Sums and a histogram of the angle between prediction and truth."""

    def _count(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        same_pixels(prediction, target, channels=3)
        truth, valid = target.float(), _valid(target)
        # atan2 of sine and cosine; the arc cosine loses half the digits near zero. Lengths cancel.
        sine = torch.linalg.cross(prediction, truth, dim=1).norm(dim=1)
        angle = torch.rad2deg(torch.atan2(sine, (prediction * truth).sum(dim=1))).double()
        angle = torch.where((prediction == 0).all(dim=1), 90.0, angle)  # no direction at all is no better than chance
        bins = 180 * BINS_PER_DEGREE
        cell = torch.where(valid, (angle * BINS_PER_DEGREE).long().clamp(0, bins - 1), bins)
        return {
            "angle": (angle * valid).sum(),
            "within": torch.logical_and(angle < WITHIN_DEG, valid).sum(),
            "count": valid.sum(),
            "histogram": torch.bincount(cell.flatten(), minlength=bins + 1)[:-1],
        }

    def _result(self, sums: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        angle, within, count = (float(sums.get(name, 0.0)) for name in ("angle", "within", "count"))
        mean = ratio(angle, count)
        median = _median(sums["histogram"]) / BINS_PER_DEGREE if count else math.nan
        return {"error": mean, "mean_deg": mean, "median_deg": median, "within_11": 100 * ratio(within, count)}


def _median(histogram: NDArray[np.float64]) -> float:
    """Return the median in bins, interpolated within the bin that holds it."""
    below = np.cumsum(histogram)
    half = below[-1] / 2
    cell = int(np.searchsorted(below, half))
    return float(cell + (half - (below[cell] - histogram[cell])) / histogram[cell])


class Normals:
    """One direction per pixel; predictions are vectors (b, 3, h, w) of any length."""

    kind: TaskKindName = "normals"
    metrics: tuple[Metric, ...] = (
        Metric("mean_deg", "deg", False),
        Metric("median_deg", "deg", False),
        Metric("within_11", "%", True),
    )
    error_unit = "deg"

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels of the sum over x, y, z of the absolute error, both vectors of length 1."""
        same_pixels(prediction, target, channels=3)
        error = (_unit(prediction.float()) - _unit(target.float())).abs().sum(dim=1)
        return masked_mean(error, _valid(target))

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the same absolute difference between the student's and the teacher's unit vectors."""
        return (_unit(student.float()) - _unit(teacher.detach().float())).abs().sum(dim=1).mean()

    def labelled(self, target: Tensor, outputs: int) -> Tensor:
        """Return how many pixels have a normal."""
        return _valid(target).sum()

    def summary(self, target: Tensor, outputs: int) -> Tensor:
        """Return the mean normal, shape (n, 3)."""
        valid = _valid(target)
        total = (target.double() * valid[:, None]).flatten(2).sum(dim=2)
        return total / valid.flatten(1).sum(dim=1, keepdim=True)

    def meter(self) -> NormalsMeter:
        """Return an empty meter."""
        return NormalsMeter()

    def draw(
        self, values: NDArray[Any], limits: tuple[float, float] = (0.0, 10.0), outputs: int | None = None
    ) -> ImageArray | None:
        """Return x, y, z in [-1, 1] as red, green, blue of vectors (3, h, w); black where there is none."""
        array = np.asarray(values, dtype=float)
        length = np.linalg.norm(array, axis=0)
        picture = np.where(length > 0, (array / np.maximum(length, 1e-12) + 1) * 127.5, 0)
        return picture.round().astype(np.uint8).transpose(1, 2, 0)

    def describe(self, values: NDArray[Any], labels: Sequence[str] = (), outputs: int | None = None) -> str:
        """Return the mean direction."""
        x, y, z = np.asarray(values, dtype=float).reshape(3, -1).mean(axis=1)
        return f"mean normal ({x:.2f}, {y:.2f}, {z:.2f})"
