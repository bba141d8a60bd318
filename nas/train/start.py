"""Where training starts: a regression that starts at the mean need not learn it, and every width shares it."""

from __future__ import annotations

import torch

from nas.data import MultiTaskData
from nas.supernet import MultiTaskNet


@torch.no_grad()
def start_at_mean(net: MultiTaskNet, data: MultiTaskData) -> None:
    """Set the bias of every depth head to the mean of the valid training depths, in metres.

    A narrow subnet sums fewer channels than the wide one whose weights it takes, so that without this its depths stay too
    small for many epochs.
    """
    for name, head in net.heads().items():
        if data.task(name).kind == "depth" and head.bias is not None:
            depth = data.train.targets[name].float()
            valid = torch.isfinite(depth) & (depth > 0)
            if valid.any():
                head.bias.fill_(float(depth[valid].mean()))
