"""A search space of one's own: a chain of convolutions that pick their width and their kernel.

One class, which the job file names as ``python:own_space:Kernels``. A small kernel is the middle of the large one, as in
once-for-all networks (Cai et al., ICLR 2020, without their transformation matrices); channels are the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from nas.core import ArchConfig, Choice, FloatArray, InputSpec, SearchSpace, Task
from nas.supernet import Features, MultiTaskNet, Outputs, Shapes, View, prefix_views
from search_spaces.decoders import decoder_macs, make_decoder
from search_spaces.layers import ConvNorm, Normalize, make_divisible, strided


class KernelNet(MultiTaskNet):
    """One network of the space: each layer halves the height and the width, but for the first."""

    def __init__(
        self, input: InputSpec, tasks: Sequence[Task], widths: Sequence[int], kernels: Sequence[int], decoder_channels: int
    ) -> None:
        super().__init__()
        self.normalize = Normalize(input)
        self.layers = nn.ModuleList()
        size, sizes = (input.height, input.width), []
        for layer, (before, width, kernel) in enumerate(zip((input.channels, *widths), widths, kernels, strict=False)):
            stride = 2 if layer else 1
            self.layers.append(ConvNorm(before, width, kernel, stride))
            size = strided(size, stride)
            sizes.append(size)
        full = (input.height, input.width)
        self.decoders = nn.ModuleDict({task.name: make_decoder(task, widths, sizes, decoder_channels, full) for task in tasks})

    def encode(self, x: Tensor) -> Features:
        """Return one feature map per layer, fine to coarse."""
        features, x = [], self.normalize(x)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features

    def decode(self, features: Features) -> Outputs:
        """Return every task's prediction."""
        return {task: decoder(features) for task, decoder in self.decoders.items()}

    def heads(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """Return each task's last layer."""
        return {task: decoder.head for task, decoder in self.decoders.items()}  # type: ignore[misc]


class Kernels:
    """The space; keyword arguments are what ``space.options`` of the job file may set."""

    def __init__(
        self,
        tasks: Sequence[Task],
        input: InputSpec,
        *,
        channels: Sequence[int] = (16, 32, 64),
        widths: Sequence[float] = (0.5, 1.0),
        kernels: Sequence[int] = (3, 5),
        decoder_channels: int = 16,
    ) -> None:
        self.tasks, self.input = tuple(tasks), input
        self.channels, self.kernels, self.decoder_channels = tuple(channels), tuple(kernels), decoder_channels
        layers = range(len(channels))
        self.space = SearchSpace(
            "kernels",
            [
                *(Choice(f"layer.{layer}.width", tuple(widths)) for layer in layers),  # the smallest network comes first
                *(Choice(f"layer.{layer}.kernel", tuple(kernels)) for layer in layers),
            ],
        )
        self.teacher = self.space.largest()  # what the others learn from

    def build(self, arch: ArchConfig) -> KernelNet:
        """Return the network of an architecture: ordinary layers of the sizes that it picks."""
        layers = range(len(self.channels))
        kernels = [int(arch[f"layer.{layer}.kernel"]) for layer in layers]
        return KernelNet(self.input, self.tasks, [self._width(arch, n) for n in layers], kernels, self.decoder_channels)

    def super_module(self) -> KernelNet:
        """Return the network that owns the shared weights: here the largest one."""
        return self.build(self.space.largest())

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return the first channels of every tensor, and the middle of the encoder's kernels."""
        views = prefix_views(shapes)
        for layer in range(len(self.channels)):
            name = f"layers.{layer}.0.weight"  # (outputs, inputs, kernel, kernel)
            kernel = shapes[name][-1]
            start = (self.kernels[-1] - kernel) // 2
            views[name] = View(name, (*views[name].index[:2], *[slice(start, start + kernel)] * 2))
        return views

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return the multiply-accumulates of n networks, shape (n,): a search counts thousands at once."""
        size, total = (self.input.height, self.input.width), np.zeros(len(archs))
        before = np.full(len(archs), self.input.channels)
        widths, areas = [], []
        for layer in range(len(self.channels)):
            size = strided(size, 2 if layer else 1)
            width = np.array([self._width(arch, layer) for arch in archs])
            kernel = np.array([float(arch[f"layer.{layer}.kernel"]) for arch in archs])
            total += kernel**2 * before * width * (size[0] * size[1])
            widths.append(width)
            areas.append(np.full(len(archs), float(size[0] * size[1])))
            before = width
        for task in self.tasks:
            total += decoder_macs(task, widths, areas, np.full(len(archs), float(self.decoder_channels)))
        return total

    def _width(self, arch: ArchConfig, layer: int) -> int:
        return make_divisible(self.channels[layer] * float(arch[f"layer.{layer}.width"]))
