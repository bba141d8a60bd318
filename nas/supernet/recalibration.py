"""Batch-norm statistics of one subnet, estimated anew: those of the shared weights mix every width (Yu and Huang, 2019).

Images weigh alike: where the last batch is smaller than the others, it counts for less.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def recalibrate(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the running mean and variance of every batch norm to the mean over the images, and leave `module` in eval mode.

    Args:
        module: A plain network.
        inputs: Batches of pixels, shape (n, channels, height, width). One batch or more; with none, nothing changes.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    seen = 0
    module.train()
    try:
        for x in inputs:
            if seen == 0:
                for layer in norms:
                    layer.reset_running_stats()
            seen += len(x)
            for layer in norms:
                layer.momentum = len(x) / seen  # a cumulative average
            module(x)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        module.eval()
