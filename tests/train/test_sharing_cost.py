"""The expected number of branches: the published values, recursions over partitions, sampling, and its gradient."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.core import UserError
from nas.core.branching import Partition, meet, partition, set_partitions
from nas.core.types import Codes, FloatArray
from nas.train.sharing_cost import expected_branches, sharing_cost

# Sum over layers of the expected number of branches where every draw is uniform: (tasks, layers), the published recursion's
# value and the exact one.
ORACLES = [
    (2, 1, 1.500000, 1.500000),
    (2, 2, 3.250000, 3.250000),
    (2, 3, 5.125000, 5.125000),
    (3, 1, 2.111111, 2.111111),
    (3, 2, 4.864198, 4.790123),
    (3, 3, 7.803841, 7.680384),
    (4, 1, 2.734375, 2.734375),
    (4, 2, 6.552002, 6.374756),
    (4, 3, 10.531643, 10.281979),
    (5, 1, 3.361600, 3.361600),
    (5, 2, 8.244086, 7.977283),
    (5, 3, 13.238326, 12.897920),
]


@cache
def groupings(tasks: int) -> tuple[list[Partition], Codes, Codes]:
    """Return the partitions, every assignment of branches to tasks, and the partition that each makes."""
    names = [str(t) for t in range(tasks)]
    partitions = set_partitions(names)
    place = {blocks: i for i, blocks in enumerate(partitions)}
    branches = list(itertools.product(range(tasks), repeat=tasks))
    return partitions, np.array(branches), np.array([place[partition(row, names)] for row in branches])


@cache
def common(left: Partition, right: Partition) -> Partition:
    return tuple(sorted(meet(left, right)))


def drawn(shares: FloatArray) -> dict[Partition, float]:
    """Return the probability that one layer's draws, of shares (tasks, branches), group the tasks so, by enumeration."""
    partitions, branches, made = groupings(len(shares))
    chances = shares[np.arange(len(shares)), branches].prod(axis=1)
    return dict(zip(partitions, np.bincount(made, chances, len(partitions)).tolist(), strict=True))


def by_meets(shares: FloatArray) -> list[float]:
    """Return the expected number of blocks per layer by the recursion over partitions and their meets."""
    tasks = [str(t) for t in range(shares.shape[1])]
    before: dict[Partition, float] = {(tuple(tasks),): 1.0}
    expected = []
    for layer in shares:
        now: dict[Partition, float] = {}
        for parent, p in before.items():
            for own, q in drawn(layer).items():
                both = common(parent, own)
                now[both] = now.get(both, 0.0) + p * q
        before = now
        expected.append(sum(p * len(blocks) for blocks, p in now.items()))
    return expected


def as_published(shares: FloatArray) -> list[float]:
    """Return the same by the published recursion, which counts draws that would merge what has parted as fully split."""
    tasks = [str(t) for t in range(shares.shape[1])]
    split, before, expected = tuple((t,) for t in tasks), None, []
    for layer in shares:
        own = drawn(layer)
        if before is not None:
            now = {
                k: p * sum(q for parent, q in before.items() if common(k, parent) == k) for k, p in own.items() if k != split
            }
            own = now | {split: 1 - sum(now.values())}
        before = own
        expected.append(sum(p * len(blocks) for blocks, p in own.items()))
    return expected


def softmax(logits: FloatArray) -> FloatArray:
    return torch.from_numpy(logits).softmax(-1).numpy()


def some_shares(tasks: int, layers: int, seed: int) -> FloatArray:
    return softmax(1.5 * np.random.default_rng(seed).normal(size=(layers, tasks, tasks)))


@pytest.mark.parametrize(("tasks", "layers", "published", "exact"), ORACLES)
def test_uniform_draws_give_the_published_table(tasks: int, layers: int, published: float, exact: float) -> None:
    shares = np.full((layers, tasks, tasks), 1 / tasks)
    assert float(expected_branches(torch.from_numpy(shares)).sum()) == pytest.approx(exact, abs=1e-6)
    assert sum(by_meets(shares)) == pytest.approx(exact, abs=1e-6)
    assert sum(as_published(shares)) == pytest.approx(published, abs=1e-6)


def test_logits_that_favour_the_own_branch() -> None:
    logits, costs = np.stack([np.eye(3)] * 3), np.array([1.0, 2.0, 3.0])
    shares = softmax(logits)
    assert float(expected_branches(torch.from_numpy(shares)) @ torch.from_numpy(costs)) == pytest.approx(16.504636, abs=1e-6)
    assert by_meets(shares) @ costs == pytest.approx(16.504636, abs=1e-6)
    assert as_published(shares) @ costs == pytest.approx(16.688601, abs=1e-6)
    relative = sharing_cost(torch.from_numpy(logits), torch.from_numpy(costs))
    assert float(relative) == pytest.approx(16.504636 / 6, abs=1e-6)


@pytest.mark.parametrize(("tasks", "layers"), [(1, 2), (2, 5), (3, 4), (4, 3), (5, 2)])
def test_it_is_the_recursion_over_partitions(tasks: int, layers: int) -> None:
    shares = some_shares(tasks, layers, seed=tasks)
    assert expected_branches(torch.from_numpy(shares)).numpy() == pytest.approx(np.array(by_meets(shares)), abs=1e-12)


@pytest.mark.parametrize(("tasks", "layers"), [(3, 4), (4, 5), (5, 3), (9, 3)])
def test_it_agrees_with_sampling(tasks: int, layers: int) -> None:
    shares, count = some_shares(tasks, layers, seed=10 + tasks), 40_000
    rng = np.random.default_rng(0)
    gumbel = rng.gumbel(size=(count, layers, tasks, tasks))
    branch = (np.log(shares) + gumbel).argmax(-1)  # the Gumbel-max trick: categorical draws, (count, layers, tasks)
    alike = np.logical_and.accumulate(branch[..., :, None] == branch[..., None, :], axis=1)  # still together
    blocks = (1 / alike.sum(-1)).sum(-1)  # every task counts as its share of its block, (count, layers)
    error = blocks.std(axis=0) / count**0.5
    assert (np.abs(expected_branches(torch.from_numpy(shares)).numpy() - blocks.mean(axis=0)) < 4 * error + 1e-12).all()


def test_all_shared_costs_one_and_all_apart_as_many_as_there_are_tasks() -> None:
    costs = torch.tensor([3.0, 1.0])
    shared, apart = torch.zeros(2, 4, 4), 1e4 * torch.eye(4).expand(2, 4, 4)
    shared[..., 2] = 1e4
    assert float(sharing_cost(shared, costs)) == 1.0
    assert float(sharing_cost(apart, costs)) == pytest.approx(4.0, abs=1e-12)
    late = torch.stack([shared[0], apart[0]])
    assert float(sharing_cost(late, costs)) == pytest.approx((3 * 1 + 1 * 4) / 4, abs=1e-12)
    assert float(sharing_cost(late.flip(0), costs)) == pytest.approx(4.0, abs=1e-12)  # tasks that parted stay apart


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits = torch.from_numpy(np.random.default_rng(3).normal(size=(3, 3, 3))).requires_grad_()
    costs = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)

    def cost(values: Tensor) -> Tensor:
        return sharing_cost(values, costs)

    assert torch.autograd.gradcheck(cost, (logits,), eps=1e-6, atol=1e-7)
    assert float(torch.autograd.grad(cost(logits), logits)[0].abs().max()) > 1e-3


def test_too_many_tasks_are_refused() -> None:
    with pytest.raises(UserError, match=r"at most 16 tasks, got 17; write search\.sampler: predictor"):
        expected_branches(torch.full((1, 17, 17), 1 / 17))
