"""What spaces ask of their options, each with an error that says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from nas.core import ArchError, Task

MOST_CHANNELS = 8192  # beyond any use: catches a slip of the keyboard


def check_ratios(name: str, values: Sequence[float]) -> None:
    """Raise `ArchError` unless the values are positive and ascend."""
    if not values or list(values) != sorted(set(values)) or values[0] <= 0 or not np.isfinite(values).all():
        raise ArchError(f"{name} are positive and ascend: got {list(values)}; write for example [0.25, 0.5, 1.0]")


def check_counts(name: str, values: Sequence[int]) -> None:
    """Raise `ArchError` unless the values are whole, positive and ascend."""
    check_ratios(name, values)
    if any(value != int(value) for value in values):
        raise ArchError(f"{name} are whole numbers: got {list(values)}; write for example [1, 2]")


def check_channels(channels: Sequence[int], decoder_channels: int, widths: Sequence[float], stem_stride: int) -> None:
    """Raise `ArchError` where a layer would have too few or too many channels, or the stem a stride of its own."""
    sizes = [*channels, decoder_channels]
    if not channels or min(sizes) < 8 or max(sizes) * max(widths[-1], 1) > MOST_CHANNELS or stem_stride not in (1, 2, 4):
        raise ArchError(
            f"channels and decoder_channels, times the largest width, are from 8 to {MOST_CHANNELS} and stem_stride is "
            f"1, 2 or 4: got {list(channels)}, {decoder_channels}, times {widths[-1]}, and {stem_stride}"
        )


def check_task_names(tasks: Sequence[Task]) -> None:
    """Raise `ArchError` for a name that torch cannot give to a part of a network."""
    for task in tasks:
        if not task.name or "." in task.name or hasattr(nn.ModuleDict, task.name):
            raise ArchError(
                f"a task's name has no dot and is no word of torch's own, as type or items are: got {task.name!r}; "
                "give the task another name"
            )


def distinct(ratios: Sequence[float], size: Callable[[float], object]) -> tuple[float, ...]:
    """Return the ratios that give different sizes, so that no network has two names; of equals the largest ratio."""
    return tuple({size(float(ratio)): float(ratio) for ratio in ratios}.values())
