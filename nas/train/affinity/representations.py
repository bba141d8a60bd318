"""What each task makes of the same images, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.supernet import Features

GRID = 8  # a feature map is averaged down to at most so many rows and columns


@torch.no_grad()
def representations(encode: Callable[[Tensor], Features], inputs: Iterable[Tensor], tasks: int) -> list[list[Tensor]]:
    """Return each layer's representations by task, each of shape (images, positions, channels), on the CPU.

    Args:
        encode: Gives the features of the first task from fine to coarse, then those of the next one, and so on.
        inputs: Batches of pixels.
        tasks: How many.
    """
    parts: list[list[Tensor]] = [[_pooled(feature).cpu() for feature in encode(x)] for x in inputs]
    whole = [torch.cat(each) for each in zip(*parts, strict=True)]
    layers = len(whole) // tasks
    return [[whole[task * layers + layer] for task in range(tasks)] for layer in range(layers)]


def _pooled(feature: Tensor) -> Tensor:
    size = (min(GRID, feature.shape[2]), min(GRID, feature.shape[3]))
    return F.adaptive_avg_pool2d(feature.float(), size).flatten(2).transpose(1, 2)
