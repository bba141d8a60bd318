"""What an encoder that is a tree is expected to cost, as a differentiable function of where each task goes in each layer.

Bruggemann et al. (BMVC 2020) draw a branch for every task and layer, and penalise the number of branches that the derived tree
has: tasks that parted in one layer stay apart in all that follow, so that a layer's partition is the meet of all that were
drawn so far. Their code tracks the probability of every partition and, for three tasks or more, counts what should be a meet as
fully split. The exact recursion over partitions, p(l, κ) = Σ_κ' p(l-1, κ') Σ_{s: s∧κ' = κ} p(s drawn in l), has as many terms
as there are pairs of partitions. What is computed here is its expectation without any partition, which is ours: the number of
blocks of a partition is the alternating sum over the sets of tasks that it keeps together,

    |κ| = Σ_{∅≠S} (-1)^(|S|+1) [S lies in one block of κ],

and a set is together in layer l with probability Π_{k<=l} Σ_j Π_{t in S} q_k[t, j], as layers are drawn independently. That
takes 2^T terms for T tasks, where the recursion takes the square of the T-th Bell number. Both give the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nas.core import UserError

MOST_TASKS = 16  # 65,535 sets


def expected_branches(shares: Tensor) -> Tensor:
    """Return the expected number of branches of each layer's derived partition, shape (layers,): from 1 to the tasks.

    Args:
        shares: Probability with which each task draws each branch, shape (layers, tasks, branches); rows sum to 1. Sums of
            alternating signs lose digits, so that it is best of float64.

    Raises:
        UserError: There are more than `MOST_TASKS` tasks.
    """
    layers, tasks, branches = shares.shape
    if tasks > MOST_TASKS:
        raise UserError(
            f"a differentiable search counts the sets of tasks: at most {MOST_TASKS} tasks, got {tasks}; "
            "write search.sampler: predictor"
        )
    together = shares.new_ones(layers, 1, branches)  # per set of tasks: probability that all of it draws a branch
    signs = shares.new_full((1,), -1.0)
    for task in range(tasks):  # the sets with this task are those without it, and it
        together = torch.cat([together, together * shares[:, task : task + 1]], dim=1)
        signs = torch.cat([signs, -signs])
    still = together[:, 1:].sum(dim=2).cumprod(dim=0)  # (layers, sets): not parted up to here; the empty set is left out
    return still @ signs[1:]


def sharing_cost(logits: Tensor, costs: Tensor) -> Tensor:
    """Return the expected cost of the derived encoder relative to one that all tasks share: 1 is shared, T is all apart.

    The paper's cost is in GFLOPs; relative to the shared encoder (ours), one strength means the same for every network.

    Args:
        logits: Of each branch for each task, shape (layers, tasks, branches).
        costs: Of one branch in each layer, shape (layers,): multiply-accumulates or milliseconds.
    """
    branches = expected_branches(logits.double().softmax(dim=2))
    costs = costs.to(branches)
    return (branches @ costs) / costs.sum()
