"""How the weights and activations of a block of a network are stored and computed; a policy says it for every block.

A policy is part of an architecture: its choices are named ``precision.BLOCK``, where a block is a part of the network
(`nas.supernet.blocks`), so that a search space of policies adds to any other space (Mehrotra et al., SimQ-NAS, 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from nas.core.arch import ArchConfig
from nas.core.errors import ArchError, nearest

Precision = Literal["int4", "int8", "int8-dynamic", "fp32"]
"""What a block computes in.

``fp32``: as it was trained.
``int8``: activations of 8 bits without a sign, whose ranges were measured on calibration images (static), and weights of 8
bits with a sign and one scale per output channel. Convolutions and matrix products.
``int8-dynamic``: matrix products alone; the range of the activations is taken from each input while the network runs.
``int4``: matrix products alone; weights of 4 bits in groups with one scale each, activations of 32 bits.
"""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # fewest bytes first
PREFIX = "precision."


def policy_of(arch: ArchConfig) -> dict[str, Precision]:
    """Return the precision of each block that `arch` names; a block that it does not name computes in ``fp32``.

    Raises:
        ArchError: A value is no precision.
    """
    return {name.removeprefix(PREFIX): _checked(name, value) for name, value in arch.items() if name.startswith(PREFIX)}


def without_policy(arch: ArchConfig) -> ArchConfig:
    """Return the architecture of the network itself: the choices that are not of the policy."""
    return ArchConfig({name: value for name, value in arch.items() if not name.startswith(PREFIX)})


def with_policy(arch: ArchConfig, policy: Mapping[str, Precision]) -> ArchConfig:
    """Return the network of `arch` under `policy`, which replaces the policy that `arch` has."""
    return ArchConfig({**without_policy(arch), **{PREFIX + block: precision for block, precision in policy.items()}})


def is_fp32(policy: Mapping[str, Precision]) -> bool:
    """Return whether nothing is quantized under `policy`."""
    return all(precision == "fp32" for precision in policy.values())


def _checked(name: str, value: object) -> Precision:
    for precision in PRECISIONS:
        if value == precision:
            return precision
    raise ArchError(f"{name} = {value!r} is no precision; {nearest(value, PRECISIONS)}")
