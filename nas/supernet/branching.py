"""What a space supplies besides, where tasks can part: what a differentiable search and the affinity of tasks ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from nas.core import ArchConfig, FloatArray
from nas.core.branching import Partition
from nas.supernet.definition import Outputs, SpaceDefinition


@runtime_checkable
class Branching(SpaceDefinition, Protocol):
    """A space whose encoder is a tree. Its super module has a branch per task in every layer."""

    layers: int

    def layer_macs(self) -> FloatArray:
        """Return the multiply-accumulates of one full-width branch in each layer, shape (layers,)."""
        ...

    def relaxed(self, module: nn.Module, x: Tensor, weights: Tensor) -> Outputs:
        """Return every task's prediction when each task takes a mixture of all branches in every layer.

        Args:
            module: The super module.
            x: Pixels in [0, 1], shape (n, channels, height, width).
            weights: Of each branch in what a task goes on with, shape (layers, tasks, branches). A branch of weight 0 is not
                computed.
        """
        ...

    def arch_of(self, partitions: Sequence[Partition]) -> ArchConfig:
        """Return the tree with these partitions of the tasks, one per layer, at full widths."""
        ...
