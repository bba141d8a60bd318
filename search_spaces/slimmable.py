"""A shared encoder and one decoder per task, all of them channel-slimmable.

Every stage of the encoder and every decoder picks its own width; stages also pick their depth, and the network its input
resolution. A subnet's weights are the first channels of the full ones (Yu et al., Slimmable Neural Networks, ICLR 2019). That
decoders carry the balance between tasks and the encoder the total cost follows Aich et al., Efficient Controllable Multi-Task
Architectures, ICCV 2023; the network itself (a ResNet-like encoder, FPN-like decoders) is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core import ArchConfig, Choice, FloatArray, InputSpec, SearchSpace, Task
from nas.supernet import Features, MultiTaskNet, Outputs, Shapes, View, prefix_views
from search_spaces.decoders import Decoder, decoder_macs, make_decoder
from search_spaces.layers import ConvNorm, Normalize, Size, make_divisible, residual_stage, strided
from search_spaces.options import check_channels, check_counts, check_ratios, check_task_names, distinct


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
        size, sizes = strided(resolution, strides[0]), []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            before, stride = widths[max(stage - 1, 0)], strides[stage + 1]
            self.stages.append(residual_stage(before, width, depth, stride, project=stage > 0))
            size = strided(size, stride)
            sizes.append(size)
        self.decoders = nn.ModuleDict(
            {task.name: make_decoder(task, widths, sizes, decoders[task.name], full) for task in tasks}
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
        return {task: cast("Decoder", decoder).head for task, decoder in self.decoders.items()}


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
        check_ratios("widths", widths)
        check_ratios("resolutions", resolutions)
        check_counts("depths", depths)
        check_channels(channels, decoder_channels, widths, stem_stride)
        check_task_names(tasks)
        self.tasks, self.input = tuple(tasks), input
        self.channels, self.decoder_channels = tuple(channels), decoder_channels
        self.strides = (stem_stride, 1, *(2 for _ in channels[1:]))
        stages = range(len(channels))
        self.space = SearchSpace(
            "slimmable",
            [
                Choice("resolution", distinct(resolutions, self._resolution)),
                *(Choice(f"encoder.{stage}.width", distinct(widths, partial(self._width, stage))) for stage in stages),
                *(Choice(f"encoder.{stage}.depth", tuple(int(depth) for depth in depths)) for stage in stages),
                *(Choice(f"decoder.{task.name}.width", distinct(widths, self._decoder_width)) for task in self.tasks),
            ],
        )
        self.teacher = self.space.largest()

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

        height, width = strided((height, width), self.strides[0])
        total = 9.0 * self.input.channels * channels[0] * height * width  # stem
        areas = []
        for s in stages:
            height, width = strided((height, width), self.strides[s + 1])
            areas.append(height * width)
            before, own = channels[max(s - 1, 0)], channels[s]
            total += 9.0 * own * (before + (2 * depths[s] - 1) * own) * areas[s]
            if s > 0:
                total += 1.0 * before * own * areas[s]  # shortcut
        for task in self.tasks:
            own = np.array([self._decoder_width(float(arch[f"decoder.{task.name}.width"])) for arch in archs])
            total += decoder_macs(task, channels, areas, own)
        return np.asarray(total, dtype=float)

    def _resolution(self, ratio: float) -> Size:
        return max(8, round(self.input.height * ratio)), max(8, round(self.input.width * ratio))

    def _width(self, stage: int, ratio: float) -> int:
        return make_divisible(self.channels[stage] * ratio)

    def _decoder_width(self, ratio: float) -> int:
        return make_divisible(self.decoder_channels * ratio)
