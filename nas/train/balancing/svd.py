"""Weights from how much a task shares with the others, known before training (Wu, Zhang and Ré, ICLR 2020, algorithm 2).

The paper has a linear model per task, theta_i = X^T y_i, and weighs task i by alpha_i = ||theta_i^T U_r||, where U_r are the
top-r left singular vectors of [theta_1 ... theta_k]: a task that lies in what the tasks have in common counts more. What X and
y are for deep networks and dense tasks is ours: X are the training images averaged down to a few pixels; y_i, from the task's
kind, says in a few numbers what an image's target is, so that theta_i is a matrix; every column of both is standardised and
every theta_i has norm 1, or tasks with many numbers would own U_r. Ours too are r, half the number of tasks, and that no
alpha is below a tenth: a task that pixels say nothing of linearly is to be trained all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.core import Task
from nas.data import MultiTaskData
from nas.tasks import task_kind
from nas.train.balancing.balancer import Balancer

SIDE = 8  # pixels of an averaged image
LEAST = 0.1  # of an alpha
BATCH_SIZE = 256


class Svd(Balancer):
    """The sum of alpha_i·L_i; the weights sum to the number of tasks. Before `prepare` they are all 1."""

    weights: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.register_buffer("weights", torch.ones(len(self.tasks)))

    def prepare(self, data: MultiTaskData) -> None:
        """Set the weights from the training images and their targets."""
        x = standardised(pooled(data.train.inputs))
        summaries = [task_kind(t.kind).summary(data.train.targets[t.name], t.outputs) for t in self.tasks]
        alphas = alignment([x.T @ standardised(y) for y in summaries], rank=(len(self.tasks) + 1) // 2).clamp(min=LEAST)
        self.weights.copy_(alphas * len(alphas) / alphas.sum())

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum."""
        return (self.weights * torch.stack([losses[task.name] for task in self.tasks])).sum()


def alignment(thetas: Sequence[Tensor], rank: int) -> Tensor:
    """Return ||theta_i^T U_r|| of each theta_i scaled to norm 1, shape (k,): the share of it that is in the common directions.

    Args:
        thetas: Each of shape (d, m_i). One that is zero (the pixels say nothing of the task) has alignment 0, unless all are,
            when each has 1.
        rank: How many of the leading left singular vectors are the common directions.
    """
    norms = [theta.norm() for theta in thetas]
    units = [theta / norm if norm > 0 else theta for theta, norm in zip(thetas, norms, strict=True)]
    if not any(norm > 0 for norm in norms):
        return torch.ones(len(thetas), dtype=thetas[0].dtype)
    common = torch.linalg.svd(torch.cat(units, dim=1), full_matrices=False).U[:, :rank]  # (d, r)
    return torch.stack([(unit.T @ common).norm() for unit in units])


def pooled(inputs: Tensor) -> Tensor:
    """Return uint8 images of shape (n, channels, height, width) averaged down, shape (n, channels · pixels)."""
    size = (min(SIDE, inputs.shape[2]), min(SIDE, inputs.shape[3]))
    parts = (F.adaptive_avg_pool2d(part.float(), size) for part in torch.split(inputs, BATCH_SIZE))
    return torch.cat([part.flatten(1) for part in parts])


def standardised(columns: Tensor) -> Tensor:
    """Return columns of mean 0 and variance 1, float64 on the CPU; what is not known (NaN) or constant is 0."""
    x = columns.double().cpu()
    known = torch.isfinite(x)
    count = known.sum(dim=0).clamp(min=1)
    centred = torch.where(known, x - torch.where(known, x, 0.0).sum(dim=0) / count, 0.0)
    scale = (centred.square().sum(dim=0) / count).sqrt()
    return torch.where(scale > 1e-9, centred / scale.clamp(min=1e-9), 0.0)
