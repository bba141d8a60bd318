"""A task is what one head of the network predicts from the shared input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskKindName = Literal["classification", "segmentation", "depth", "normals"]
DENSE_KINDS = ("segmentation", "depth", "normals")  # one prediction per pixel
NO_CLASS = -1  # in a target: nobody said what it is
NO_CLASS_BYTE = 255  # the same in a map of pixels, of which a byte holds one, as long as no class has this number


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
    def ignored(self) -> int:
        """The value of a target that is no class: 255 in segmentation, -1 in classification and where 255 is a class."""
        return ignored_class(self.kind, self.outputs)

    @property
    def dense(self) -> bool:
        """Whether there is one prediction per pixel rather than one per image."""
        return self.kind in DENSE_KINDS


def ignored_class(kind: TaskKindName, classes: int) -> int:
    """Return the value of a target that is no class, for a number of classes; losses and metrics ignore it."""
    return NO_CLASS_BYTE if kind == "segmentation" and classes <= NO_CLASS_BYTE else NO_CLASS


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
