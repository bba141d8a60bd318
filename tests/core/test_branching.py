"""Trees of tasks: every chain of refining partitions has one name, and every name is a tree."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import ArchError, SearchSpace
from nas.core.branching import (
    Partition,
    branching_choices,
    branching_picks,
    leaders,
    meet,
    partition,
    set_partitions,
    tree,
)

quick = settings(deadline=None, max_examples=60, derandomize=True)
NAMES = ("seg", "depth", "normals", "edges", "room")


def trees(tasks: tuple[str, ...], layers: int) -> SearchSpace:
    return SearchSpace("trees", *branching_choices(tasks, layers))


def as_set(given: Partition) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(block) for block in given)


def refines(fine: Partition, coarse: Partition) -> bool:
    return all(any(set(block) <= set(other) for other in coarse) for block in fine)


def chains(tasks: tuple[str, ...], layers: int) -> set[tuple[frozenset[frozenset[str]], ...]]:
    """Return every sequence of partitions in which each refines the one before, by trying them all."""
    found: list[tuple[Partition, ...]] = [()]
    for _ in range(layers):
        found = [(*chain, p) for chain in found for p in set_partitions(tasks) if not chain or refines(p, chain[-1])]
    return {tuple(as_set(p) for p in chain) for chain in found}


@pytest.mark.parametrize(("count", "bell"), [(0, 1), (1, 1), (2, 2), (3, 5), (4, 15), (5, 52)])
def test_partitions_are_as_many_as_the_bell_number_says(count: int, bell: int) -> None:
    found = set_partitions(NAMES[:count])
    assert len({as_set(p) for p in found}) == len(found) == bell
    assert all(sorted(task for block in p for task in block) == sorted(NAMES[:count]) for p in found)


@pytest.mark.parametrize(("count", "layers"), [(1, 3), (2, 4), (3, 3), (4, 2), (5, 1)])
def test_every_chain_of_refining_partitions_has_one_name(count: int, layers: int) -> None:
    tasks = NAMES[:count]
    space = trees(tasks, layers)
    archs = list(space.enumerate())
    named = [tuple(as_set(p) for p in tree(arch, tasks, layers)) for arch in archs]
    assert len(set(named)) == len(archs) == space.count()
    assert set(named) == chains(tasks, layers)


@quick
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 5), layers=st.integers(1, 4))
def test_picks_and_partitions_say_the_same(seed: int, count: int, layers: int) -> None:
    tasks = NAMES[:count]
    space = trees(tasks, layers)
    rng = np.random.default_rng(seed)
    arch = space.sample(rng)
    partitions = tree(arch, tasks, layers)
    assert space.arch(arch) == arch
    assert all(refines(partitions[i + 1], partitions[i]) for i in range(layers - 1))
    assert space.arch(branching_picks(partitions, tasks)) == arch
    lead = leaders([arch], tasks, layers)[0]
    for layer, blocks in enumerate(partitions):
        for block in blocks:
            assert {int(lead[layer, tasks.index(task)]) for task in block} == {min(tasks.index(task) for task in block)}


@quick
@given(labels=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_what_has_parted_stays_parted(labels: list[list[int]]) -> None:
    tasks = NAMES[:4]
    given = [partition(row, tasks) for row in labels]
    found = tree(trees(tasks, len(given)).arch(branching_picks(given, tasks)), tasks, len(given))
    for layer in range(len(given)):
        for a in tasks:
            for b in tasks:
                together = all(row[tasks.index(a)] == row[tasks.index(b)] for row in labels[: layer + 1])
                assert together == any({a, b} <= set(block) for block in found[layer])


@quick
@given(left=st.integers(0, 14), right=st.integers(0, 14))
def test_the_meet_is_the_coarsest_common_refinement(left: int, right: int) -> None:
    every = set_partitions(NAMES[:4])
    found = meet(every[left], every[right])
    common = [p for p in every if refines(p, every[left]) and refines(p, every[right])]
    assert all(refines(p, found) for p in common)
    assert as_set(found) in {as_set(p) for p in common}


def test_the_first_option_shares_everything_and_the_last_nothing() -> None:
    space = trees(NAMES[:3], 2)
    assert tree(space.smallest(), NAMES[:3], 2) == ((NAMES[:3],),) * 2
    assert tree(space.largest(), NAMES[:3], 2) == (tuple((task,) for task in NAMES[:3]),) * 2


def test_a_partition_without_a_task_or_with_a_strange_one_is_refused() -> None:
    tasks = NAMES[:3]
    whole: Partition = (tasks,)
    with pytest.raises(ArchError, match="'normals' is in no branch of layer 1"):
        branching_picks([whole, (("seg",), ("depth",))], tasks)
    with pytest.raises(ArchError, match="'seg' is in several branches of layer 0"):
        branching_picks([(("seg", "depth"), ("seg", "normals"))], tasks)
    with pytest.raises(ArchError, match="'normal' in layer 0 is none; did you mean 'normals'"):
        branching_picks([(("seg", "depth", "normal"),)], tasks)


@pytest.mark.parametrize("count", [4, 8, 20])
def test_trees_of_many_tasks_are_counted_as_far_as_asked(count: int) -> None:
    """All of eight tasks' would take half a minute and gigabytes, of twenty tasks' more than there is."""
    choices, aliases = branching_choices([f"task{i}" for i in range(count)], 4)
    space = SearchSpace("trees", choices, aliases)
    began = time.process_time()
    assert space.count(5000) >= (5000 if count > 4 else 0)
    assert time.process_time() - began < 5
    if count == 4:
        exact = space.count()
        assert [space.count(most) >= min(most, exact) for most in (1, 10, exact, exact + 1)] == [True] * 4
        assert space.count(exact + 1) == exact
    assert "or more" in repr(space)
