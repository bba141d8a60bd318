"""A shared encoder and one decoder per task, all of them channel-slimmable.

Every stage of the encoder and every decoder picks its own width; stages also pick their depth, and the network its input
resolution. A subnet's weights are the first channels of the full ones (Yu et al., Slimmable Neural Networks, ICLR 2019). That
decoders carry the balance between tasks and the encoder the total cost follows Aich et al., Efficient Controllable Multi-Task
Architectures, ICCV 2023; the network itself (a ResNet-like encoder, FPN-like decoders) is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core import ArchConfig, ArchError, Choice, FloatArray, InputSpec, SearchSpace, Task
from nas.supernet import Features, MultiTaskNet, Outputs, Shapes, View, prefix_views
from search_spaces.layers import BasicBlock, ConvNorm, Normalize, make_divisible

Size = tuple[int, int]  # height, width
MOST_CHANNELS = 8192  # beyond any use: catches a slip of the keyboard


def _halved(size: Size, stride: int) -> Size:
    """Return the size after a 3×3 convolution with padding 1 and the given stride."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


class PyramidDecoder(nn.Module):
    """A dense prediction from the whole feature pyramid (Lin et al., 2017), coarse to fine, at one channel count."""

    def __init__(self, inputs: Sequence[int], sizes: Sequence[Size], channels: int, outputs: int, full: Size) -> None:
        super().__init__()
        self.sizes, self.full = list(sizes), full
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.smooth = nn.ModuleList(ConvNorm(channels, channels) for _ in inputs)
        self.head = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Features) -> Tensor:
        """Return shape (n, outputs, height, width) of the input."""
        y = self.smooth[-1](self.lateral[-1](features[-1]))
        for level in range(len(features) - 2, -1, -1):
            y = F.interpolate(y, size=self.sizes[level], mode="nearest") + self.lateral[level](features[level])
            y = self.smooth[level](y)
        return F.interpolate(self.head(y), size=self.full, mode="bilinear", align_corners=False)


class PooledDecoder(nn.Module):
    """One prediction per image from the coarsest features."""

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.mix = ConvNorm(inputs, channels, 1)
        self.head = nn.Linear(channels, outputs)

    def forward(self, features: Features) -> Tensor:
        """Return shape (n, outputs)."""
        y: Tensor = self.head(self.mix(features[-1]).mean((2, 3)))
        return y


class SlimmableNet(MultiTaskNet):
    """The plain network of one architecture.

    Args:
        input: What the network takes.
        tasks: One decoder each.
        resolution: Height and width at which the encoder sees the input.
        widths: Channels of each encoder stage.
        depths: Blocks of each encoder stage.
        strides: Of the stem, then of each stage.
        decoders: Channels of each task's decoder.
    """

    def __init__(
        self,
        input: InputSpec,
        tasks: Sequence[Task],
        resolution: Size,
        widths: Sequence[int],
        depths: Sequence[int],
        strides: Sequence[int],
        decoders: Mapping[str, int],
    ) -> None:
        super().__init__()
        full = (input.height, input.width)
        self.resolution = None if resolution == full else resolution
        self.normalize = Normalize(input)
        self.stem = ConvNorm(input.channels, widths[0], 3, strides[0])
        self.stages = nn.ModuleList()
        size, sizes = _halved(resolution, strides[0]), []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            before, stride = widths[max(stage - 1, 0)], strides[stage + 1]
            first = BasicBlock(before, width, stride, project=stage > 0)
            self.stages.append(nn.Sequential(first, *(BasicBlock(width, width, 1, project=False) for _ in range(depth - 1))))
            size = _halved(size, stride)
            sizes.append(size)
        self.decoders = nn.ModuleDict(
            {
                task.name: PyramidDecoder(widths, sizes, decoders[task.name], task.outputs, full)
                if task.dense
                else PooledDecoder(widths[-1], decoders[task.name], task.outputs)
                for task in tasks
            }
        )

    def encode(self, x: Tensor) -> Features:
        """Return one feature map per stage, fine to coarse."""
        if self.resolution is not None:
            x = F.interpolate(x, size=self.resolution, mode="bilinear", align_corners=False)
        x = self.stem(self.normalize(x))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def decode(self, features: Features) -> Outputs:
        """Return every task's prediction."""
        return {task: decoder(features) for task, decoder in self.decoders.items()}

    def heads(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """Return each decoder's last layer."""
        return {task: cast("PyramidDecoder | PooledDecoder", decoder).head for task, decoder in self.decoders.items()}


def _distinct(ratios: Sequence[float], size: Callable[[float], object]) -> tuple[float, ...]:
    """Return the ratios that give different sizes, so that no network has two names; of equals the largest ratio."""
    return tuple({size(float(ratio)): float(ratio) for ratio in ratios}.values())


class Slimmable:
    """The definition of the space.

    Choices: ``resolution`` (ratio of the input's sides), ``encoder.S.width``, ``encoder.S.depth`` and ``decoder.TASK.width``.

    Args:
        tasks: Tasks of the job.
        input: Input of the job.
        widths: Ratios of the full channels, smallest first.
        depths: Blocks per stage, smallest first.
        resolutions: Ratios of the input's height and width, smallest first.
        channels: Full channels of each encoder stage.
        decoder_channels: Full channels of each decoder.
        stem_stride: Stride of the first convolution; every stage after the first halves the size again.

    Raises:
        ArchError: An option is empty, not ascending, not positive or too large, or torch cannot hold a task's name.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        input: InputSpec,
        *,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        depths: Sequence[int] = (1, 2),
        resolutions: Sequence[float] = (0.75, 1.0),
        channels: Sequence[int] = (32, 64, 128, 256),
        decoder_channels: int = 64,
        stem_stride: int = 2,
    ) -> None:
        for name, values in (("widths", widths), ("depths", depths), ("resolutions", resolutions)):
            if not values or list(values) != sorted(set(values)) or values[0] <= 0 or not np.isfinite(values).all():
                raise ArchError(f"{name} are positive and ascend: got {list(values)}; write for example [0.25, 0.5, 1.0]")
        if any(depth != int(depth) for depth in depths):
            raise ArchError(f"depths are whole numbers: got {list(depths)}; write for example [1, 2]")
        sizes = [*channels, decoder_channels]
        most = max(sizes) * max(widths[-1], 1)
        if not channels or min(sizes) < 8 or most > MOST_CHANNELS or stem_stride not in (1, 2, 4):
            raise ArchError(
                f"channels and decoder_channels, times the largest width, are from 8 to {MOST_CHANNELS} and stem_stride is "
                f"1, 2 or 4: got {list(channels)}, {decoder_channels}, times {widths[-1]}, and {stem_stride}"
            )
        for task in tasks:
            if not task.name or "." in task.name or hasattr(nn.ModuleDict, task.name):
                raise ArchError(
                    f"a task's name has no dot and is no word of torch's own, as type or items are: got {task.name!r}; "
                    "give the task another name"
                )
        self.tasks, self.input = tuple(tasks), input
        self.channels, self.decoder_channels = tuple(channels), decoder_channels
        self.strides = (stem_stride, 1, *(2 for _ in channels[1:]))
        stages = range(len(channels))
        self.space = SearchSpace(
            "slimmable",
            [
                Choice("resolution", _distinct(resolutions, self._resolution)),
                *(Choice(f"encoder.{stage}.width", _distinct(widths, partial(self._width, stage))) for stage in stages),
                *(Choice(f"encoder.{stage}.depth", tuple(int(depth) for depth in depths)) for stage in stages),
                *(Choice(f"decoder.{task.name}.width", _distinct(widths, self._decoder_width)) for task in self.tasks),
            ],
        )

    def build(self, arch: ArchConfig) -> SlimmableNet:
        """Return the plain network of an architecture, with fresh weights."""
        return SlimmableNet(
            self.input,
            self.tasks,
            self._resolution(float(arch["resolution"])),
            [self._width(stage, float(arch[f"encoder.{stage}.width"])) for stage in range(len(self.channels))],
            [int(arch[f"encoder.{stage}.depth"]) for stage in range(len(self.channels))],
            self.strides,
            {task.name: self._decoder_width(float(arch[f"decoder.{task.name}.width"])) for task in self.tasks},
        )

    def super_module(self) -> SlimmableNet:
        """Return the largest network, which owns the shared weights."""
        return self.build(self.space.largest())

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return the leading channels of every layer."""
        return prefix_views(shapes)

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,): convolutions and linear layers, as torch counts them."""
        ratio = np.array([float(arch["resolution"]) for arch in archs])
        height, width = np.array([self._resolution(r) for r in ratio]).reshape(-1, 2).T
        stages = range(len(self.channels))
        channels = [np.array([self._width(s, float(arch[f"encoder.{s}.width"])) for arch in archs]) for s in stages]
        depths = [np.array([int(arch[f"encoder.{s}.depth"]) for arch in archs]) for s in stages]

        def halved(side: FloatArray, stride: int) -> FloatArray:
            return (side - 1) // stride + 1

        height, width = halved(height, self.strides[0]), halved(width, self.strides[0])
        total = 9.0 * self.input.channels * channels[0] * height * width  # stem
        areas = []
        for s in stages:
            height, width = halved(height, self.strides[s + 1]), halved(width, self.strides[s + 1])
            areas.append(height * width)
            before, own = channels[max(s - 1, 0)], channels[s]
            total += 9.0 * own * (before + (2 * depths[s] - 1) * own) * areas[s]
            if s > 0:
                total += 1.0 * before * own * areas[s]  # shortcut
        for task in self.tasks:
            own = np.array([self._decoder_width(float(arch[f"decoder.{task.name}.width"])) for arch in archs])
            if task.dense:
                for s in stages:
                    total += 1.0 * own * (channels[s] + 9 * own) * areas[s]  # lateral, smooth
                total += 1.0 * own * task.outputs * areas[0]
            else:
                total += 1.0 * own * channels[-1] * areas[-1] + own * task.outputs
        return np.asarray(total, dtype=float)

    def _resolution(self, ratio: float) -> Size:
        return max(8, round(self.input.height * ratio)), max(8, round(self.input.width * ratio))

    def _width(self, stage: int, ratio: float) -> int:
        return make_divisible(self.channels[stage] * ratio)

    def _decoder_width(self, ratio: float) -> int:
        return make_divisible(self.decoder_channels * ratio)
