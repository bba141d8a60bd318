"""Weights learned from each task's uncertainty (Kendall, Gal and Cipolla, CVPR 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nas.core import Task
from nas.train.balancing.balancer import Balancer

REGRESSION = ("depth", "normals")


class Uncertainty(Balancer):
    """Sum of a·exp(-s)·L + s/2 with s = log σ² learned per task; a is ½ for regression and 1 for classes."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.log_variance = nn.ParameterDict({task.name: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar; at a fixed regression loss L it is least at s = log L."""
        terms = []
        for task in self.tasks:
            s = self.log_variance[task.name]
            factor = 0.5 if task.kind in REGRESSION else 1.0
            terms.append(factor * torch.exp(-s) * losses[task.name] + 0.5 * s)
        return torch.stack(terms).sum()
