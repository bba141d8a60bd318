"""A task is what one head of the network predicts from the shared input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskKindName = Literal["classification", "segmentation", "depth", "normals"]
DENSE_KINDS = ("segmentation", "depth", "normals")  # one prediction per pixel


@dataclass(frozen=True, slots=True)
class Metric:
    """A quality of a prediction.

    Attributes:
        name: Such as ``miou`` or ``rmse_m``; in an evaluation it is written ``miou.TASK``.
        unit: ``%``, ``m``, ``deg`` or an empty string.
        higher_is_better: The direction.
    """

    name: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Task:
    """One prediction from the shared input.

    Attributes:
        name: Chosen by the data set, such as ``seg``.
        kind: Selects the loss, the metrics and the shape of the head.
        outputs: Channels of the head: classes, or 1 for depth and 3 for normals.
        weight: Factor of the task's loss under fixed balancing.
        labels: Names of the classes, where there are any.
    """

    name: str
    kind: TaskKindName
    outputs: int
    weight: float = 1.0
    labels: tuple[str, ...] = ()

    @property
    def dense(self) -> bool:
        """Whether there is one prediction per pixel rather than one per image."""
        return self.kind in DENSE_KINDS


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What every network of a job takes: float32 pixels in [0, 1], shape (batch, channels, height, width).

    Attributes:
        channels: Channels of the input.
        height: Rows.
        width: Columns.
        mean: Subtracted per channel inside the network, in [0, 1] units.
        std: Divided by per channel inside the network, in [0, 1] units.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
