"""The parts of a network that take a precision, found from the plain module alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from nas.core import PRECISIONS, Precision

LayerKind = Literal["conv", "linear"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MATRIX_PRODUCTS = (nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network with weights.

    Attributes:
        name: Path of its module in the network, such as ``stages.0`` or ``decoders.seg``; the same in every subnet of a space.
        kinds: What layers it holds.
    """

    name: str
    kinds: frozenset[LayerKind]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the block can compute in, fewest bytes first: a convolution has no dynamic and no 4-bit kernel worth its time.

        A block with both kinds of layers has them all; ``int8-dynamic`` and ``int4`` then mean its matrix products alone.
        """
        able: tuple[Precision, ...] = PRECISIONS if "linear" in self.kinds else ("int8", "fp32")
        return tuple(precision for precision in PRECISIONS if precision in able)


def blocks(module: nn.Module) -> tuple[Block, ...]:
    """Return the children of a network that hold convolutions or linear layers, in its own order.

    A list or dict of modules is not a block but each of its members is. The names depend on the outermost structure only, not
    on widths and depths, so that those of a supernet's largest network hold for all of its subnets.
    """
    found = ((name, _kinds(part)) for name, part in _parts(module))
    return tuple(Block(name, kinds) for name, kinds in found if kinds)


def block_of(path: str, names: tuple[str, ...]) -> str | None:
    """Return which of the blocks called `names` holds the module at `path`, if any does."""
    inside = [name for name in names if path == name or path.startswith(f"{name}.")]
    return max(inside, key=len, default=None)


def _parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{member}", part) for member, part in child.named_children())
        else:
            yield name, child


def _kinds(module: nn.Module) -> frozenset[LayerKind]:
    kinds: set[LayerKind] = set()
    for layer in module.modules():
        if isinstance(layer, CONVOLUTIONS):
            kinds.add("conv")
        if isinstance(layer, MATRIX_PRODUCTS):
            kinds.add("linear")
    return frozenset(kinds)
