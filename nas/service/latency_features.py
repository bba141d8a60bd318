"""What latency predictors see of architectures, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.core import ArchConfig, FloatArray
from nas.supernet import SpaceDefinition
from predictors.features import cost_features

Vectorised = Callable[[Sequence[ArchConfig]], FloatArray]  # n architectures to one number each, (n,)


def latency_features(definition: SpaceDefinition, archs: Sequence[ArchConfig]) -> FloatArray:
    """Return the choices and the multiply-accumulates of architectures, shape (n, d)."""
    return cost_features(definition.space.encode(archs), {"macs": definition.macs(archs)})
