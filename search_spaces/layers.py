"""Layers that every space uses."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from nas.core import FloatArray, InputSpec

Size = tuple[int, int]  # height, width
Side = TypeVar("Side", int, FloatArray)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` nearest to `channels`, at least one and never below nine tenths of it.

    The rule of slimmable networks and MobileNetV2 (`min(channels, divisor)` guards tiny layers).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def strided(size: tuple[Side, Side], stride: int) -> tuple[Side, Side]:
    """Return height and width after a 3×3 convolution with padding 1 and the given stride."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


class Normalize(nn.Module):
    """Pixels in [0, 1] to zero mean and unit variance per channel; part of the network, so part of what is exported."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        shape = (1, spec.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(spec.std, dtype=torch.float32).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, channels, height, width)."""
        return (x - self.mean) / self.std


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, and a ReLU unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al., 2016); the shortcut is a 1×1 convolution where told."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride)
        self.conv2 = ConvNorm(outputs, outputs, 3, relu=False)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride, relu=False) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, outputs, height / stride, width / stride)."""
        return torch.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


def residual_stage(inputs: int, outputs: int, blocks: int, stride: int, project: bool) -> nn.Sequential:
    """Return basic blocks in a row, of which the first has the stride, and the 1×1 shortcut where told."""
    first = BasicBlock(inputs, outputs, stride, project)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, project=False) for _ in range(blocks - 1)))
