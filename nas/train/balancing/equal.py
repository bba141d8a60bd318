"""Every task counts the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.train.balancing.balancer import Balancer


class Equal(Balancer):
    """The sum of the losses."""

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum."""
        return torch.stack([losses[task.name] for task in self.tasks]).sum()
