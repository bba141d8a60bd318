"""The differentiable search for a tree: its samples, its derivation, and what it does to logits and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from tiny_training import SIDE, SPEC, TASKS, split, tiny_data
from torch import nn

from nas.core import DataError, DifferentiableSpec, NasError, Task, TrainingSpec
from nas.core.branching import tree
from nas.data import MultiTaskData, Split
from nas.supernet import Branching, Outputs
from nas.train.balancing import Balancer, make_balancer
from nas.train.bilevel import SharingEpoch, derive, gumbel_softmax, halves, search_tree
from nas.train.compute import choose_compute
from search_spaces.branched import Branched

OPTIONS = DifferentiableSpec(epochs=2, learning_rate=0.2)
COSTS = torch.tensor([2.0, 1.0])


@pytest.fixture(scope="module")
def data() -> MultiTaskData:
    return tiny_data(train=30)


@pytest.fixture(scope="module")
def definition(data: MultiTaskData) -> Branched:
    return Branched(data.tasks, data.input, widths=(0.5, 1.0), channels=(8, 16), blocks=1, decoder_channels=8, stem_stride=2)


def searched(
    definition: Branching,
    data: MultiTaskData,
    strength: float,
    *,
    seed: int = 0,
    initial: torch.Tensor | None = None,
    balancer: Balancer | None = None,
    module: nn.Module | None = None,
    recipe: TrainingSpec = SPEC,
    options: DifferentiableSpec = OPTIONS,
) -> list[SharingEpoch]:
    if module is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            module = definition.super_module()
    balancer = balancer or make_balancer("equal", definition.tasks)
    compute, costs = choose_compute(recipe), COSTS[: definition.layers]
    epochs = search_tree(definition, module, balancer, data, recipe, options, strength, costs, compute, seed, initial)
    return list(epochs)


def test_cold_samples_are_one_hot_and_as_frequent_as_the_softmax_says() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]).expand(20_000, 2, 3)
    sampled = gumbel_softmax(logits, 1e-4, torch.Generator().manual_seed(0))
    assert torch.allclose(sampled.sum(-1), torch.ones(20_000, 2), atol=1e-6)
    assert float((sampled.amax(-1) > 0.999).float().mean()) > 0.999
    assert torch.allclose(sampled.mean(0), logits[0].softmax(-1), atol=0.015)
    hot = gumbel_softmax(logits, 1e4, torch.Generator().manual_seed(0))
    assert torch.allclose(hot, torch.full_like(hot, 1 / 3), atol=1e-2)


def test_a_sample_passes_gradients_on() -> None:
    logits = torch.zeros(3, requires_grad=True)
    sample = gumbel_softmax(logits, 2.0, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(sample[0], logits)
    first = float(sample[0].detach())
    assert float(gradient[0]) == pytest.approx(first * (1 - first) / 2.0, rel=1e-5)  # of a softmax at temperature 2


def test_a_tree_is_derived_by_the_largest_logit_and_refines() -> None:
    seg, depth, room = (task.name for task in TASKS)
    rows = torch.tensor([[2, 0, 2], [1, 1, 1], [0, 1, 2]])  # the branch that each task prefers in each layer
    logits = torch.nn.functional.one_hot(rows, 3).float()
    apart, together = ((seg, room), (depth,)), ((seg,), (depth,), (room,))
    assert derive(logits, TASKS) == (apart, apart, together)  # what has parted never meets again
    assert derive(torch.zeros(2, 3, 3), TASKS) == (((seg, depth, room),),) * 2


def test_images_of_the_two_parts_are_distinct_and_all_there() -> None:
    whole = split(31, 0)
    weights, logits = halves(whole, torch.Generator().manual_seed(0))
    assert (len(weights), len(logits)) == (25, 6)
    rows = torch.cat([weights.inputs, logits.inputs]).flatten(1).tolist()
    assert sorted(rows) == sorted(whole.inputs.flatten(1).tolist())
    with pytest.raises(DataError, match="got 7 images; give it 8 or more"):
        halves(split(7, 0), torch.Generator())


class Guess(nn.Module):
    """Three branches that each guess a depth of 2, 3 or 4 m, the same for every image: nothing but the logits matters."""

    guesses: torch.Tensor

    def __init__(self, best: Sequence[int]) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        guesses = torch.full((3, 3), 4.0)
        guesses[range(3), list(best)] = 2.0  # the branch that is right for each task
        self.register_buffer("guesses", guesses)


class OneLayer:
    """What a search asks of a space, without a network."""

    layers = 1

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)

    def relaxed(self, module: Guess, x: torch.Tensor, weights: torch.Tensor) -> Outputs:
        depth = (weights[0] * module.guesses).sum(1) + 0 * module.offset
        return {task.name: depth[t].expand(len(x), 1, *x.shape[-2:]) for t, task in enumerate(self.tasks)}


def test_tasks_take_the_branches_that_serve_them_unless_sharing_is_worth_more(data: MultiTaskData) -> None:
    tasks = tuple(Task(name, "depth", 1) for name in ("near", "far", "mid"))
    splits = []
    for part in (data.train, data.val, data.test):
        target = torch.full((len(part), 1, SIDE, SIDE), 2.0)
        splits.append(Split(part.inputs, {task.name: target for task in tasks}))
    depths = MultiTaskData("depths", tasks, data.input, *splits)
    definition = cast("Branching", OneLayer(tasks))
    found = {}
    for strength in (0.0, 1000.0):
        options = DifferentiableSpec(epochs=20, learning_rate=0.3)
        found[strength] = searched(definition, depths, strength, module=Guess([0, 2, 0]), options=options)
    free, strong = (rows[-1] for rows in found.values())
    assert free.tree == ((("near", "mid"), ("far",)),)
    assert torch.tensor(free.logits).argmax(-1).tolist() == [[0, 2, 0]]
    assert free.loss < found[0.0][0].loss
    assert strong.tree == ((("near", "far", "mid"),),)
    assert strong.cost < free.cost - 0.5


def test_every_epoch_names_a_tree_of_the_space(definition: Branched, data: MultiTaskData) -> None:
    epochs = searched(definition, data, 0.1)
    assert len(epochs) == OPTIONS.epochs
    for epoch in epochs:
        assert 1.0 <= epoch.cost <= 3.0
        assert np.isfinite(epoch.loss)
        assert epoch.tree == derive(torch.tensor(epoch.logits), definition.tasks)
        assert tree(definition.arch_of(epoch.tree), definition.names, definition.layers) == epoch.tree


def test_a_search_starts_where_it_is_told(definition: Branched, data: MultiTaskData) -> None:
    apart = 3 * torch.eye(3).expand(2, 3, 3)
    (epoch,) = searched(definition, data, 0.1, initial=apart, options=DifferentiableSpec(epochs=1, learning_rate=0.01))
    assert np.abs(np.array(epoch.logits) - apart.numpy()).max() < 0.02  # a step of Adam moves a logit by its rate
    assert float(apart.max()) == 3.0


def test_one_seed_gives_one_search(definition: Branched, data: MultiTaskData) -> None:
    first, again, other = (searched(definition, data, 0.1, seed=seed)[-1] for seed in (5, 5, 6))
    assert first == again
    assert first.logits != other.logits


def test_weights_are_trained_and_the_balancer_is_not(definition: Branched, data: MultiTaskData) -> None:
    module, balancer = definition.super_module(), make_balancer("uncertainty", definition.tasks)
    before = {name: value.clone() for name, value in module.named_parameters()}
    searched(definition, data, 0.1, module=module, balancer=balancer, options=DifferentiableSpec(epochs=1))
    assert all(not torch.equal(before[name], value) for name, value in module.named_parameters())
    assert all(float(value.detach()) == 0.0 for value in balancer.parameters())


class Diverged(Balancer):
    """What a loss is that has overflown."""

    def forward(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([losses[task.name] for task in self.tasks]).sum() * float("nan")


def test_losses_that_are_no_numbers_end_it(definition: Branched, data: MultiTaskData) -> None:
    with pytest.raises(NasError, match=r"finite losses: in epoch 1 of strength 0\.1 it is nan"):
        searched(definition, data, 0.1, balancer=Diverged(definition.tasks))
