"""Affinity against closed forms and second implementations; trees against what a tree has to be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import tiny_data, tiny_definition

from nas.core import Task
from nas.core.affinity import Affinity, Tree
from nas.core.branching import branching_picks, meet, partition, tree
from nas.data import batches
from nas.supernet import MultiTaskNet, Supernet
from nas.train.affinity import (
    closeness,
    covariance_similarity,
    gradient_cosines,
    image_similarity,
    initial_alpha,
    principal,
    propose,
    representations,
    rsa_affinity,
    shared_width,
)
from nas.train.affinity.gradients import cosines


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int) -> torch.Tensor:
    turn: torch.Tensor = torch.linalg.qr(noise(size, size, seed=seed)).Q
    return turn


def test_identical_representations_are_alike_and_rotating_one_of_them_changes_nothing() -> None:
    x, other = noise(20, 6), noise(20, 6, seed=1)
    for turned in (x, x @ rotation(6, 2) * 3 + 1):  # scaled and moved, too
        similar = [image_similarity(x), image_similarity(turned)]
        assert rsa_affinity(similar) == pytest.approx(np.ones((2, 2)))
        assert closeness(similar) == pytest.approx(np.ones((2, 2)))
        assert covariance_similarity([principal(x), principal(turned)]) == pytest.approx(np.ones((2, 2)))
    plain = [image_similarity(x), image_similarity(other)]
    rotated = [image_similarity(x @ rotation(6, 3)), image_similarity(other @ rotation(6, 4))]
    assert closeness(rotated) == pytest.approx(closeness(plain))
    assert closeness(plain)[0, 1] < 0.7


def test_rsa_by_hand() -> None:
    """Three images on a line, once in the order a b c and once with a and b together: similarities are ±1."""
    line = image_similarity(torch.tensor([[-1.0], [1.0], [3.0], [-3.0]]))
    assert line.tolist() == pytest.approx(np.outer([-1, 1, 1, -1], [-1, 1, 1, -1]))
    halves = image_similarity(torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]))
    nearly = line.clone()
    nearly[0, 1] = nearly[1, 0] = 0.0
    # ||line - halves||² = 8 · 2² and ||line - nearly||² = 2 · 1², each over a row's largest
    far, near = math.sqrt(32), math.sqrt(2)
    third = math.sqrt(2 * 1 + 6 * 4 + 0)  # halves against nearly: (0, 1) differs by 1, three other pairs by 2
    affinity = rsa_affinity([line, halves, nearly])
    assert affinity[0].tolist() == pytest.approx([1, 0, 1 - near / far])
    assert affinity[1].tolist() == pytest.approx([0, 1, 1 - third / far])
    assert affinity[2].tolist() == pytest.approx([1 - near / third, 1 - third / third, 1])  # rows are scaled on their own
    # over the six pairs of images the norms are √6, √6 and √5
    assert closeness([line, halves, nearly])[0].tolist() == pytest.approx(
        [1, 1 - 4 / (2 * math.sqrt(6)), 1 - 1 / (math.sqrt(6) + math.sqrt(5))]
    )


def test_covariance_similarity_by_hand_and_by_kernels() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    # XXᵀ and YYᵀ: tr(XXᵀYYᵀ) = ||XᵀY||² = 2² + 4², ||XXᵀ|| = √(2² + 8²), ||YYᵀ|| = 4
    assert covariance_similarity([principal(x), principal(y)])[0, 1] == pytest.approx(math.sqrt(20 / (math.sqrt(68) * 4)))
    orthogonal = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert covariance_similarity([principal(y), principal(orthogonal)]) == pytest.approx(np.eye(2))
    assert covariance_similarity([principal(y), principal(torch.ones(4, 3))]) == pytest.approx(np.eye(2))  # constant
    left, right = noise(30, 4, seed=5), noise(30, 7, seed=6)
    left_kernel, right_kernel = ((v - v.mean(0)) @ (v - v.mean(0)).T for v in (left, right))
    cka = float((left_kernel * right_kernel).sum() / (left_kernel.norm() * right_kernel.norm()))  # Kornblith et al., 2019
    assert covariance_similarity([principal(left), principal(right)])[0, 1] == pytest.approx(math.sqrt(cka))


def test_rank_is_the_fewest_directions_with_99_percent_of_the_variance() -> None:
    basis = torch.linalg.qr(torch.cat([torch.ones(50, 1, dtype=torch.float64), noise(50, 3)], 1)).Q[:, 1:]  # of mean 0
    for variances, rank in (([98.0, 1.0, 1.0], 2), ([99.5, 0.4, 0.1], 1), ([1.0, 1.0, 1.0], 3), ([98.9, 1.0, 0.1], 2)):
        samples = basis * torch.tensor(variances, dtype=torch.float64).sqrt() @ rotation(3, 7)
        assert principal(samples).shape == (50, rank)
    assert shared_width([10, 20], 64) == pytest.approx(30 / 64)
    assert shared_width([40, 50], 64) == 1.0


class Opposed(MultiTaskNet):
    """Two predictions of depth that are the same number with one sign and the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = torch.nn.ModuleList([torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.Conv2d(2, 1, 1, bias=False)])
        with torch.no_grad():
            for stage in self.stages:
                stage.weight.fill_(0.5)  # type: ignore[operator]

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.stages[0](x)
        return [first, self.stages[1](first)]

    def decode(self, features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"up": features[1] + 9, "down": 9 - features[1], "again": features[1] + 9}


def test_gradients_of_opposite_losses_oppose_and_of_equal_ones_agree() -> None:
    tasks = [Task(name, "depth", 1) for name in ("up", "down", "again")]
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    targets = {task.name: torch.ones(2, 1, 4, 4) for task in tasks}  # every prediction is too large: up pulls down
    mean, spread = gradient_cosines(Opposed().eval(), [(x, targets), (x * 0.5, targets)], tasks)
    expected = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
    assert mean == pytest.approx(np.stack([expected, expected]), abs=1e-5)
    assert spread == pytest.approx(np.zeros((2, 3, 3)), abs=1e-5)
    unknown = {**targets, "down": torch.zeros(2, 1, 4, 4)}  # no pixel has a depth: no gradient, so no cosine
    mean, _ = gradient_cosines(Opposed().eval(), [(x, unknown)], tasks)
    assert np.isnan(mean[:, 1]).all()
    assert np.isfinite(mean[:, 0, [0, 2]]).all()
    mean, _ = gradient_cosines(Opposed().eval(), [(x, unknown), (x, targets)], tasks)  # the other batch counts
    assert mean == pytest.approx(np.stack([expected, expected]), abs=1e-5)


def test_cosines_by_hand() -> None:
    found = cosines(torch.tensor([[3.0, 4.0], [4.0, 3.0], [-4.0, 3.0]]))
    assert found == pytest.approx(np.array([[1, 0.96, 0], [0.96, 1, -0.28], [0, -0.28, 1]]))


def test_a_supernet_has_gradients_per_stage_and_representations_per_task() -> None:
    data = tiny_data()
    definition = tiny_definition(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = Supernet(definition).eval()
    net = supernet.extract(definition.space.largest())
    mean, spread = gradient_cosines(net, batches(data.train, data.tasks, 8, None), data.tasks)
    assert mean.shape == spread.shape == (2, 3, 3)
    assert mean[:, range(3), range(3)] == pytest.approx(np.ones((2, 3)))
    assert mean == pytest.approx(mean.transpose(0, 2, 1))
    other = supernet.extract(definition.space.smallest())
    layers = representations(lambda x: [*net.encode(x), *other.encode(x)], (x for x, _ in batches(data.val, (), 8, None)), 2)
    assert [[tuple(task.shape) for task in layer] for layer in layers] == [
        [(12, 64, 8), (12, 64, 8)],
        [(12, 64, 16), (12, 36, 8)],
    ]


def test_trees_part_what_is_unlike_and_keep_what_is_alike() -> None:
    alike = [[1, 0.9, 0.8], [0.9, 1, 0.8], [0.8, 0.8, 1]]
    unlike = [[1, 0.7, 0.1], [0.7, 1, 0.3], [0.1, 0.3, 1]]
    trees = propose(np.array([alike, unlike]), ("a", "b", "c"), np.array([[4, 4, 8], [8, 4, 30]]), np.array([32, 32]))
    assert [tree.name for tree in trees] == [
        "a+b+c ×2",
        "a+b+c ×1 › a+b c ×1",
        "a+b+c ×1 › a b c ×1",
        "a+b c ×1 › a b c ×1",
        "a b c ×2",
    ]
    assert [tree.dissimilarity for tree in trees] == pytest.approx([2.4, 0.8, 0.5, 0.1, 0.0])
    assert trees[1].widths == ({"a": 0.5}, {"a": 12 / 32, "c": 30 / 32})
    assert trees[0].widths[1] == {"a": 1.0}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_every_tree_refines_downwards_and_each_shares_less_than_the_one_before(tasks: int, layers: int, seed: int) -> None:
    names = [f"t{i}" for i in range(tasks)]
    trees = propose(np.random.default_rng(seed).random((layers, tasks, tasks)), names)
    assert trees[0].partitions == ((tuple(names),),) * layers
    assert trees[-1].partitions == (tuple((name,) for name in names),) * layers
    assert len({each.partitions for each in trees}) == len(trees)
    for each in trees:
        for above, below in itertools.pairwise(each.partitions):
            assert {frozenset(block) for block in meet(above, below)} == {frozenset(block) for block in below}
    for more, less in itertools.pairwise(trees):
        assert less.dissimilarity < more.dissimilarity
        for above, below in zip(more.partitions, less.partitions, strict=True):
            assert {frozenset(block) for block in meet(above, below)} == {frozenset(block) for block in below}


def test_a_differentiable_search_begins_with_a_tree_of_what_is_more_alike_than_on_average() -> None:
    alike = [[1, 0.8, 0.7], [0.8, 1, 0.9], [0.7, 0.9, 1]]
    mixed = [[1, 0.3, 0.2], [0.3, 1, 0.7], [0.2, 0.7, 1]]
    unlike = [[1, 0.2, 0.1], [0.2, 1, 0.1], [0.1, 0.1, 1]]  # the mean of all nine pairs is 4/9
    alpha = initial_alpha(np.array([alike, mixed, unlike]))
    assert alpha.argmax(axis=2).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 2]]
    assert alpha.sum(axis=2) == pytest.approx(np.zeros((3, 3)))
    assert alpha[1, 1, 1] - alpha[1, 1, 0] == pytest.approx(4 * (0.7 - 0.3))
    assert alpha[2, 0, 0] - alpha[2, 0, 1] == pytest.approx(4 * (4 / 9 - 0.2))  # alone: as near as the average, not as 1
    assert alpha[0, 2, 0] - alpha[0, 2, 1] == pytest.approx(4 * (0.8 - 0.1))  # a branch that none leads
    assert initial_alpha(np.ones((2, 1, 1))).tolist() == [[[0]], [[0]]]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_the_tree_it_begins_with_is_one_of_those_proposed_in_each_layer(tasks: int, layers: int, seed: int) -> None:
    names = [f"t{i}" for i in range(tasks)]
    affinity = np.random.default_rng(seed).random((layers, tasks, tasks))
    derived = [partition(row.tolist(), names) for row in initial_alpha(affinity).argmax(axis=2)]
    found = tree(branching_picks(derived, names), names, layers)
    cut = [each.partitions for each in propose(affinity, names)]
    assert found in cut


def test_affinity_is_the_same_after_json_and_a_number_that_is_not_known_is_null() -> None:
    gradients = np.array([[[1, math.nan], [math.nan, 1]]])
    tree = Tree(((("a", "b"),),), ({"a": 0.5},), 0.25)
    found = Affinity(
        ("a", "b"), "gradients", {"supernet": "0" * 16}, 0, None, None, None, gradients, gradients, None, None, (tree,)
    )
    text = found.to_json()
    again = Affinity.from_json(text)
    assert "NaN" not in text
    assert again.to_json() == text
    assert again.trees == (tree,)
    assert again.affinity.tolist() == [[[1, 0.5], [0.5, 1]]]
    assert list(again.measures()) == ["gradients"]
