"""What the branched space promises beyond the contract: trees, their weights, and mixtures of branches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from space_cases import DEPTH, NORMALS, SEG, input_spec, pixels

from nas.core import ArchError
from nas.core.branching import Partition, tree
from nas.supernet import Branching, Supernet
from search_spaces import make_space

TASKS = (SEG, DEPTH, NORMALS)
NAMES = tuple(task.name for task in TASKS)
TOGETHER: Partition = (NAMES,)
APART: Partition = tuple((name,) for name in NAMES)
PAIR: Partition = (("seg", "normals"), ("depth",))


@pytest.fixture(scope="module")
def definition() -> Branching:
    made = make_space("branched", {"channels": (8, 16, 16), "decoder_channels": 8, "blocks": 1}, TASKS, input_spec(3, 24, 32))
    assert isinstance(made, Branching)
    return made


def test_a_tree_has_the_branches_of_its_partitions(definition: Branching) -> None:
    arch = definition.arch_of([TOGETHER, PAIR, APART])
    assert tree(arch, NAMES, 3) == (TOGETHER, PAIR, APART)
    assert (arch["branch.depth.layers"], arch["branch.normals.layers"], arch["branch.normals.with"]) == (1, 2, "seg")
    found = [
        name for name in dict(definition.build(arch).named_modules()) if name.count(".") == 2 and name.startswith("stages")
    ]
    assert found == ["stages.0.seg", "stages.1.seg", "stages.1.depth", "stages.2.seg", "stages.2.depth", "stages.2.normals"]


def test_what_depends_on_a_task_is_its_own_path(definition: Branching) -> None:
    torch.manual_seed(0)
    net, x = definition.build(definition.arch_of([TOGETHER, PAIR, APART])), pixels(definition, 2)
    net.eval()(x)["depth"].sum().backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert {name.split(".")[2] for name in touched if name.startswith(("stages.1", "stages.2"))} == {"depth"}
    assert any(name.startswith("stages.0.seg") for name in touched)


def test_whole_shares_of_branches_are_the_tree_with_those_branches(definition: Branching) -> None:
    torch.manual_seed(1)
    supernet, x = Supernet(definition).eval(), pixels(definition, 2)
    weights = torch.zeros(3, 3, 3)  # each task's branch is its leader's, as in the network of the space
    for layer, lead in enumerate(([0, 0, 0], [0, 1, 0], [0, 1, 2])):
        weights[layer, [0, 1, 2], lead] = 1.0
    with torch.no_grad():
        mixed = definition.relaxed(supernet.shared, x, weights)
        plain = supernet(x, definition.arch_of([TOGETHER, PAIR, APART]))
    for name in NAMES:
        torch.testing.assert_close(mixed[name], plain[name], rtol=0, atol=1e-6)


def test_a_mixture_of_branches_is_their_weighted_sum(definition: Branching) -> None:
    torch.manual_seed(2)
    net, x = definition.super_module().eval(), pixels(definition, 2)
    weights = torch.eye(3).repeat(3, 1, 1)
    weights[0, 1] = torch.tensor([0.2, 0.5, 0.3])
    weights.requires_grad_()
    with torch.no_grad():
        start = net.stem(net.normalize(x))  # type: ignore[operator]
        first = [net.stages[0][name](start) for name in NAMES]  # type: ignore[index]
        y = 0.2 * first[0] + 0.5 * first[1] + 0.3 * first[2]
        path = [y]
        for layer in (1, 2):
            path.append(net.stages[layer]["depth"](path[-1]))  # type: ignore[index]
        expected = net.decoders["depth"](path)  # type: ignore[index]
    out = definition.relaxed(net, x, weights)
    torch.testing.assert_close(out["depth"].detach(), expected)
    out["depth"].square().mean().backward()
    assert weights.grad is not None
    assert weights.grad[0, 1].all()
    assert not weights.grad[0, 0].any()


def test_the_cost_of_a_branch_is_what_parting_adds(definition: Branching) -> None:
    shared = definition.macs([definition.arch_of([TOGETHER] * 3)])[0]
    for layer in range(3):
        parted = definition.macs([definition.arch_of([TOGETHER] * layer + [PAIR] * (3 - layer))])[0]
        assert parted - shared == definition.layer_macs()[layer:].sum()


def test_no_network_has_two_names_in_samples_mutations_and_crossings(definition: Branching) -> None:
    rng, space = np.random.default_rng(0), definition.space
    archs = [space.sample(rng) for _ in range(100)]
    archs += [space.mutate(arch, rng, 2) for arch in archs] + [space.cross(a, b, rng) for a, b in itertools.pairwise(archs)]
    for arch in archs:
        assert space.arch(definition.space.arch(arch)) == arch
        partner = arch.get("branch.normals.with")
        if partner == "depth":  # a leader: it has left the first task before the normals leave it
            assert int(arch["branch.depth.layers"]) < int(arch["branch.normals.layers"])


def test_a_tree_that_cannot_be_is_refused(definition: Branching) -> None:
    with pytest.raises(ArchError, match="one partition per layer: got 2 for 3 layers"):
        definition.arch_of([TOGETHER, APART])
    with pytest.raises(ArchError, match="'normals' is in no branch of layer 1"):
        definition.arch_of([TOGETHER, (("seg",), ("depth",)), APART])
    with pytest.raises(ArchError, match="blocks is a whole number from 1: got 0"):
        make_space("branched", {"blocks": 0}, TASKS, definition.input)
