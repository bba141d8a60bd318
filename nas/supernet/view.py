"""A view says which slice of which shared tensor a subnet's parameter is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True, slots=True)
class View:
    """A part of a shared tensor.

    Attributes:
        name: Of the shared parameter or buffer, as in ``super_module.state_dict()``.
        index: One slice per dimension.
    """

    name: str
    index: tuple[slice, ...]

    def of(self, shared: Tensor) -> Tensor:
        """Return the part of `shared`, as a view of its storage."""
        return shared[self.index] if self.index else shared


def prefix_views(shapes: Shapes) -> dict[str, View]:
    """Return, for each plain tensor, the leading part of the shared tensor of the same name.

    What slimmable networks share (Yu et al., Slimmable Neural Networks, ICLR 2019): the first channels of every layer.
    """
    return {name: View(name, tuple(slice(0, size) for size in shape)) for name, shape in shapes.items()}
