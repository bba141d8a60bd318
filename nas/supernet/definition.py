"""All that a method has to supply to be trained, searched, profiled and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from nas.core import ArchConfig, FloatArray, InputSpec, SearchSpace, Task
from nas.supernet.view import Shapes, View

Outputs = dict[str, Tensor]  # task to prediction: (n, outputs, height, width), or (n, outputs) per image
Features = list[Tensor]  # encoder features from fine to coarse, each (n, channels, height, width)


class MultiTaskNet(nn.Module):
    """Base of every network that a space builds: an encoder's features, then one decoder per task."""

    def encode(self, x: Tensor) -> Features:
        """Return the encoder's features of pixels in [0, 1], shape (n, channels, height, width)."""
        raise NotImplementedError

    def decode(self, features: Features) -> Outputs:
        """Return every task's prediction."""
        raise NotImplementedError

    def heads(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """Return each task's last layer, whose bias is the prediction where features say nothing."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Outputs:
        """Return every task's prediction for pixels in [0, 1], shape (n, channels, height, width)."""
        return self.decode(self.encode(x))


class SpaceDefinition(Protocol):
    """A search space with its networks. Made by `search_spaces.make_space` for the tasks and the input of a job.

    `tests/contracts` checks: the supernet's forward equals the extracted module's, gradients stay inside the slices,
    and `macs` equals torch's own count.

    Attributes:
        teacher: The network that learns from the truth in each training step, and that the others learn from. Its layers are
            as wide as any.
    """

    space: SearchSpace
    teacher: ArchConfig
    tasks: tuple[Task, ...]
    input: InputSpec

    def build(self, arch: ArchConfig) -> MultiTaskNet:
        """Return the plain network of an architecture, with fresh weights."""
        ...

    def super_module(self) -> MultiTaskNet:
        """Return the owner of the shared weights."""
        ...

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return where each parameter and buffer of the plain network, of the given shape, lies in the shared weights."""
        ...

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,), in closed form: a search counts thousands at once."""
        ...
