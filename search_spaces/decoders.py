"""From an encoder's features to a task's prediction; what spaces of encoders share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core import FloatArray, Task
from search_spaces.layers import ConvNorm, Size


class PyramidDecoder(nn.Module):
    """A dense prediction from the whole feature pyramid (Lin et al., 2017), coarse to fine, at one channel count."""

    def __init__(self, inputs: Sequence[int], sizes: Sequence[Size], channels: int, outputs: int, full: Size) -> None:
        super().__init__()
        self.sizes, self.full = list(sizes), full
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.smooth = nn.ModuleList(ConvNorm(channels, channels) for _ in inputs)
        self.head = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
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

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return shape (n, outputs)."""
        y: Tensor = self.head(self.mix(features[-1]).mean((2, 3)))
        return y


Decoder = PyramidDecoder | PooledDecoder


def make_decoder(task: Task, inputs: Sequence[int], sizes: Sequence[Size], channels: int, full: Size) -> Decoder:
    """Return the decoder of a task.

    Args:
        task: Dense ones take the whole pyramid, others its coarsest level.
        inputs: Channels of each level, fine to coarse.
        sizes: Of each level.
        channels: Of the decoder.
        full: Size of the input.
    """
    if task.dense:
        return PyramidDecoder(inputs, sizes, channels, task.outputs, full)
    return PooledDecoder(inputs[-1], channels, task.outputs)


def decoder_macs(task: Task, inputs: Sequence[FloatArray], areas: Sequence[FloatArray], channels: FloatArray) -> FloatArray:
    """Return the multiply-accumulates of n decoders of a task, shape (n,).

    Args:
        task: Of the decoders.
        inputs: Channels of each level, fine to coarse, each (n,).
        areas: Pixels of each level, each (n,).
        channels: Of the decoders, (n,).
    """
    if not task.dense:
        return np.asarray(1.0 * channels * inputs[-1] * areas[-1] + channels * task.outputs)
    levels = sum(channels * (before + 9.0 * channels) * area for before, area in zip(inputs, areas, strict=True))
    return np.asarray(levels + 1.0 * channels * task.outputs * areas[0])  # lateral and smooth convolutions, head
