"""Depth in metres: mean absolute error; RMSE. A target that is not above zero, or not finite, is ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Metric
from nas.core.task import TaskKindName
from nas.tasks.colours import depth_colours
from nas.tasks.kind import ImageArray, Meter, masked_mean, ratio, same_pixels

CLOSE = 1.25  # δ1 counts pixels within this factor of the truth (Eigen et al., NeurIPS 2014)


def _valid(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the target with 1 where it is invalid, and the mask of valid pixels."""
    valid = torch.logical_and(torch.isfinite(target), target > 0)
    return torch.where(valid, target, 1.0).float(), valid


class DepthMeter(Meter):
    """Sums over valid pixels; the RMSE pools all pixels, and is no mean of images' RMSEs."""

    def _count(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        same_pixels(prediction, target, channels=1)
        truth, valid = _valid(target)
        error = (prediction - truth).double() * valid
        factor = torch.maximum(prediction / truth, truth / prediction.clamp(min=1e-3))
        return {
            "squared": error.square().sum(),
            "relative": (error.abs() / truth).sum(),
            "close": torch.logical_and(factor < CLOSE, valid).sum(),
            "count": valid.sum(),
        }

    def _result(self, sums: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        squared, relative, close, count = (float(sums.get(name, 0.0)) for name in ("squared", "relative", "close", "count"))
        rmse = ratio(squared, count) ** 0.5
        return {"error": rmse, "rmse_m": rmse, "rel": ratio(relative, count), "delta1": 100 * ratio(close, count)}


class Depth:
    """One distance per pixel; predictions are metres (b, 1, h, w), as the head gives them."""

    kind: TaskKindName = "depth"
    metrics: tuple[Metric, ...] = (Metric("rmse_m", "m", False), Metric("rel", "", False), Metric("delta1", "%", True))
    error_unit = "m"

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute error, in metres."""
        same_pixels(prediction, target, channels=1)
        truth, valid = _valid(target)
        return masked_mean((prediction.float() - truth).abs(), valid)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean absolute difference, in metres."""
        return (student.float() - teacher.detach().float()).abs().mean()

    def labelled(self, target: Tensor, outputs: int) -> Tensor:
        """Return how many pixels have a depth."""
        return _valid(target)[1].sum()

    def summary(self, target: Tensor, outputs: int) -> Tensor:
        """Return the mean depth in metres, shape (n, 1)."""
        truth, valid = _valid(target)
        return ((truth * valid).double().flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1))[:, None]

    def meter(self) -> DepthMeter:
        """Return an empty meter."""
        return DepthMeter()

    def draw(
        self, values: NDArray[Any], limits: tuple[float, float] = (0.0, 10.0), outputs: int | None = None
    ) -> ImageArray | None:
        """Return colours from dark (near) to light (far) of (1, h, w) or (h, w) metres; black where invalid."""
        array = np.asarray(values, dtype=float)
        return depth_colours(array[0] if array.ndim == 3 else array, limits)

    def describe(self, values: NDArray[Any], labels: Sequence[str] = (), outputs: int | None = None) -> str:
        """Return the range and the median of the valid pixels."""
        array = np.asarray(values, dtype=float)
        valid = array[np.isfinite(array) & (array > 0)]
        return f"{valid.min():.1f} to {valid.max():.1f} m, median {np.median(valid):.1f} m" if valid.size else "no depth"
