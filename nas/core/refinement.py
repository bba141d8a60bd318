"""Networks with weights of their own: a subnet that was pruned or trained further is another network than the one it began as.

Its picks are those of the subnet, ``channels.GROUP`` for every group of channels that was narrowed, and ``weights``, the digest
of its weights' file. So its key differs from the subnet's, and is its identity as any other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nas.core.arch import ArchConfig
from nas.core.evaluation import Evaluation

CHANNELS = "channels."
WEIGHTS = "weights"
VERIFIED_STAGES = ("verify", "finetuned", "pruned")  # of evaluations in full on the test split: a front is made of these


def refined_arch(arch: ArchConfig, channels: Mapping[str, int], weights: str) -> ArchConfig:
    """Return the architecture of a refined network.

    Args:
        arch: The subnet that it began as.
        channels: Channels that are left of each group that was narrowed.
        weights: Digest of its weights' file.
    """
    return ArchConfig({**narrowed_arch(arch, channels), WEIGHTS: weights})


def narrowed_arch(arch: ArchConfig, channels: Mapping[str, int]) -> ArchConfig:
    """Return the architecture of a refined network without what says which weights it has."""
    return ArchConfig({**inherited_arch(arch), **{CHANNELS + group: count for group, count in channels.items()}})


def inherited_arch(arch: ArchConfig) -> ArchConfig:
    """Return the subnet that a refined network began as; any other architecture as it is."""
    return ArchConfig({name: option for name, option in arch.items() if name != WEIGHTS and not name.startswith(CHANNELS)})


def channels_of(arch: ArchConfig) -> dict[str, int]:
    """Return the channels that are left of each group that was narrowed."""
    return {name.removeprefix(CHANNELS): int(count) for name, count in arch.items() if name.startswith(CHANNELS)}


def has_own_weights(arch: ArchConfig) -> bool:
    """Return whether the weights of an architecture are a file of its own rather than slices of the supernet's."""
    return WEIGHTS in arch


def verified(rows: Iterable[Evaluation]) -> list[Evaluation]:
    """Return the evaluations in full on the test split: of subnets, and of refined networks."""
    return [row for row in rows if row.stage in VERIFIED_STAGES]
