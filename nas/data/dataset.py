"""What a data set is once loaded: splits of images with their targets, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import DataError, InputSpec, Task, nearest
from nas.core.task import NO_CLASS, NO_CLASS_BYTE
from nas.data.values import check_classes

IGNORE_PIXEL = NO_CLASS_BYTE  # a pixel without a class in a segmentation target of at most 255 classes
IGNORE_IMAGE = NO_CLASS  # an image without a class in a classification target


@dataclass(frozen=True)
class Split:
    """Images and their targets, all on one device.

    Attributes:
        inputs: uint8, shape (n, channels, height, width).
        targets: One tensor per task, as `MultiTaskData` describes.
        flippable: Whether a mirrored image is as good as the original (a mirrored digit is not).

    Raises:
        DataError: The inputs are not uint8 of four dimensions, or a target has another length.
    """

    inputs: Tensor
    targets: Mapping[str, Tensor]
    flippable: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Tensor) or self.inputs.dtype != torch.uint8 or self.inputs.ndim != 4:
            raise DataError(
                f"inputs are a uint8 tensor of shape (n, channels, height, width): got {_describe(self.inputs)}; "
                "convert pixels in [0, 1] with (x * 255).round().to(torch.uint8)"
            )
        for name, target in self.targets.items():
            if not isinstance(target, Tensor):
                raise DataError(f"a target is a tensor: {name!r} is {_describe(target)}; use torch.from_numpy")
            if target.ndim == 0 or len(target) != len(self.inputs):
                raise DataError(
                    f"every target has one entry per image: {name!r} has shape {tuple(target.shape)} "
                    f"for {len(self.inputs)} images"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> Split:
        """Return the split on `device`."""
        return Split(self.inputs.to(device), {name: t.to(device) for name, t in self.targets.items()}, self.flippable)

    def subset(self, indices: Sequence[int] | NDArray[np.int64] | Tensor) -> Split:
        """Return a copy of the images at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.long, device=self.inputs.device)
        return Split(self.inputs[index], {name: t[index] for name, t in self.targets.items()}, self.flippable)


def shard(split: Split, rank: int, world: int, even: bool = False) -> Split:
    """Return every `world`-th image, starting at `rank`: what one of `world` workers sees.

    Args:
        split: The whole.
        rank: Which worker, from 0.
        world: Number of workers.
        even: Leave out the last few images where they do not fill every shard, so that all workers take the same number
            of steps. Where there are fewer images than workers, nothing is left out.

    Raises:
        ValueError: The rank is not in [0, world).
    """
    if not 0 <= rank < world:
        raise ValueError(f"a rank is in [0, {world}): got {rank}")
    stop = len(split) - len(split) % world if even and len(split) >= world else len(split)
    return split.subset(range(rank, stop, world))


@dataclass(frozen=True)
class MultiTaskData:
    """Several tasks on one input. A user's own loader returns this.

    Targets per kind of task (n images of h × w pixels):

    - segmentation: uint8 or int64, (n, h, w), classes from 0; 255 is ignored, or -1 where there are more than 255 classes;
    - depth: floating point, (n, 1, h, w), metres; zero is ignored;
    - normals: floating point, (n, 3, h, w), unit vectors in the camera's frame; the zero vector is ignored;
    - classification: int64, (n,), classes from 0; -1 is ignored.

    Attributes:
        name: Of the data set.
        tasks: At least one.
        input: What a network takes; its mean and standard deviation are those of the training images.
        train: Images to train on.
        val: Images the search validates on; where it is empty, `load_data` takes it from `train`.
        test: Images the final front is verified on.

    Raises:
        DataError: A split lacks a target, or a target breaks its convention; the message names it.
    """

    name: str
    tasks: tuple[Task, ...]
    input: InputSpec
    train: Split
    val: Split
    test: Split

    def __post_init__(self) -> None:
        if not self.tasks or len({task.name for task in self.tasks}) != len(self.tasks):
            raise DataError(
                f"a data set has at least one task, each named once: {self.name} has {[t.name for t in self.tasks]}"
            )
        shape = (self.input.channels, self.input.height, self.input.width)
        for label, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if tuple(split.inputs.shape[1:]) != shape:
                raise DataError(
                    f"every split has the shape of `input`, {shape}: {self.name}.{label} has {tuple(split.inputs.shape[1:])}"
                )
            for task in self.tasks:
                where = f"{self.name}.{label}.{task.name}"
                if task.name not in split.targets:
                    raise DataError(
                        f"every split has a target per task: {where} is missing; {nearest(task.name, split.targets)}"
                    )
                _check_target(where, task, split.targets[task.name], shape)
        for label, split in (("train", self.train), ("test", self.test)):
            if len(split) == 0:
                raise DataError(f"a data set has images to train and to test on: {self.name}.{label} is empty")

    def to(self, device: torch.device | str) -> MultiTaskData:
        """Return the data with every split on `device`."""
        splits = (self.train.to(device), self.val.to(device), self.test.to(device))
        return self.of_checked(self.name, self.tasks, self.input, *splits)

    def only(self, tasks: Sequence[Task]) -> MultiTaskData:
        """Return the data of some of its tasks, in the order given."""
        splits = (
            Split(split.inputs, {task.name: split.targets[task.name] for task in tasks}, split.flippable)
            for split in (self.train, self.val, self.test)
        )
        return self.of_checked(self.name, tuple(tasks), self.input, *splits)

    @classmethod
    def of_checked(
        cls, name: str, tasks: tuple[Task, ...], input: InputSpec, train: Split, val: Split, test: Split
    ) -> MultiTaskData:
        """Return data whose targets were checked before, when it was first made: looking at every value takes a while."""
        data = object.__new__(cls)
        for field, value in zip(fields(cls), (name, tasks, input, train, val, test), strict=True):
            object.__setattr__(data, field.name, value)
        return data

    def task(self, name: str) -> Task:
        """Return the task called `name`.

        Raises:
            DataError: There is none; the message names the nearest.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise DataError(f"{self.name!r} has no task {name!r}; {nearest(name, [t.name for t in self.tasks])}")


def input_spec(split: Split) -> InputSpec:
    """Return the input of networks for `split`, with the exact mean and standard deviation of each channel."""
    _, channels, height, width = split.inputs.shape
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(channels):
        share = torch.bincount(split.inputs[:, channel].flatten(), minlength=256).double().cpu().numpy()
        share /= share.sum()
        centre = float(share @ levels)
        mean.append(centre)
        std.append(max(float(share @ (levels - centre) ** 2) ** 0.5, 1 / 255))  # a constant channel stays finite
    return InputSpec(channels, height, width, tuple(mean), tuple(std))


def _check_target(where: str, task: Task, target: Tensor, shape: tuple[int, int, int]) -> None:
    """Raise a DataError where `target` breaks the convention of its task's kind."""
    _, height, width = shape
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "segmentation": ((height, width), "uint8 or int64 of shape (n, height, width)"),
        "depth": ((1, height, width), "floating point of shape (n, 1, height, width), in metres"),
        "normals": ((3, height, width), "floating point of shape (n, 3, height, width)"),
        "classification": ((), "int64 of shape (n,)"),
    }
    if task.kind not in expected:
        raise DataError(f"{where} is of an unknown kind {task.kind!r}; {nearest(task.kind, expected)}")
    tail, rule = expected[task.kind]
    types = {"segmentation": (torch.uint8, torch.int64), "classification": (torch.int64,)}.get(task.kind)
    of_type = target.dtype in types if types else target.is_floating_point()
    if tuple(target.shape[1:]) != tail or not of_type:
        remedy = "; convert it with .long()" if types and tuple(target.shape[1:]) == tail else ""
        raise DataError(f"a {task.kind} target is {rule}: {where} is {_describe(target)}{remedy}")
    if types:
        check_classes(where, task, target)
    if task.kind == "normals" and not bool(torch.isfinite(target).all()):
        raise DataError(f"a normal is a finite vector: {where} holds NaN or infinity; write zeros where there is none")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__
