"""A space of one architecture: how a network is trained alone with the code that trains supernets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core import ArchConfig, Choice, FloatArray, SearchSpace
from nas.supernet.definition import MultiTaskNet, SpaceDefinition
from nas.supernet.view import Shapes, View, prefix_views


class Alone:
    """A definition whose only architecture is `arch`.

    Args:
        definition: The space that `arch` comes from.
        arch: The network to train alone.
    """

    def __init__(self, definition: SpaceDefinition, arch: ArchConfig) -> None:
        self.tasks, self.input = definition.tasks, definition.input
        self.space = SearchSpace(
            f"{definition.space.name}:{arch.key}", [Choice(name, (option,)) for name, option in arch.items()]
        )
        self.teacher = arch
        self._definition, self._arch = definition, arch

    def build(self, arch: ArchConfig) -> MultiTaskNet:
        """Return the network with fresh weights."""
        return self._definition.build(self._arch)

    def super_module(self) -> MultiTaskNet:
        """Return the network, which owns its weights."""
        return self._definition.build(self._arch)

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return each tensor as itself."""
        return prefix_views(shapes)

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,)."""
        return self._definition.macs([self._arch for _ in archs])
