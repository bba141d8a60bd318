"""The algebra of search spaces, over random spaces with conditions on conditions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_spaces import most, quick, spaces

from nas.core import ArchConfig, ArchError, Choice, SearchSpace

seeds = st.integers(0, 2**32 - 1)

TREE = SearchSpace(
    "tree",
    [
        Choice("kind", ("none", "conv", "attention")),
        Choice("kernel", (3, 5), ("kind", ("conv",))),
        Choice("heads", (1, 2, 4), ("kind", ("attention",))),
        Choice("dilation", (1, 2), ("kernel", (5,))),
        Choice("width", (0.5, 1.0)),
    ],
)


def by_brute_force(space: SearchSpace) -> set[str]:
    """Return the keys of every architecture: all picks of all choices, those without an active parent dropped."""
    keys = set()
    for picks in itertools.product(*(choice.options for choice in space.choices)):
        active: dict[str, int | float | str] = {}
        for choice, option in zip(space.choices, picks, strict=True):
            if choice.active_if is None or active.get(choice.active_if[0]) in choice.active_if[1]:
                active[choice.name] = option
        keys.add(ArchConfig(active).key)
    return keys


def is_canonical(space: SearchSpace, arch: ArchConfig) -> bool:
    """Return whether `arch` holds every active choice, nothing else, and only options that are allowed."""
    active = [c for c in space.choices if c.active_if is None or arch.get(c.active_if[0]) in c.active_if[1]]
    return list(arch) == sorted(c.name for c in active) and all(arch[c.name] in c.options for c in active)


def test_a_tree_counted_by_hand() -> None:
    # none: 1; conv: kernel 3, or 5 with two dilations: 3; attention: 3; times two widths.
    assert TREE.count() == (1 + 3 + 3) * 2
    assert TREE.width == 3 + 2 + 3 + 2 + 2


@quick
@given(space=spaces())
def test_enumeration_gives_every_architecture_once(space: SearchSpace) -> None:
    archs = list(space.enumerate())
    assert len(archs) == space.count() <= most(space)
    assert len({arch.key for arch in archs}) == len(archs)
    assert {arch.key for arch in archs} == by_brute_force(space)
    assert all(is_canonical(space, arch) for arch in archs)


@quick
@given(space=spaces(), seed=seeds)
def test_what_is_sampled_is_canonical_and_repeats_with_its_seed(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(5)]
    assert all(is_canonical(space, arch) for arch in archs)
    again = np.random.default_rng(seed)
    assert [space.sample(again) for _ in range(5)] == archs
    assert is_canonical(space, space.smallest())
    assert is_canonical(space, space.largest())


@quick
@given(space=spaces(), seed=seeds, flips=st.integers(1, 3))
def test_a_mutation_is_canonical_and_differs_wherever_it_can(space: SearchSpace, seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    arch = space.sample(rng)
    neighbour = space.mutate(arch, rng, flips)
    assert is_canonical(space, neighbour)
    free = [name for name in arch if len(space[name].options) > 1]
    assert (neighbour != arch) == bool(free)
    if flips == 1 and free:
        changed = [name for name in arch if name in neighbour and neighbour[name] != arch[name]]
        assert len(changed) == 1, "one flip changes one choice; all else that differs woke up or fell asleep"


@quick
@given(space=spaces(), seed=seeds)
def test_a_child_is_canonical_and_takes_from_its_parents(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = space.sample(rng), space.sample(rng)
    child = space.cross(left, right, rng)
    assert is_canonical(space, child)
    for name, option in child.items():
        held = [parent[name] for parent in (left, right) if name in parent]
        assert not held or option in held
    assert space.cross(left, left, rng) == left


@quick
@given(space=spaces())
def test_encoding_round_trip(space: SearchSpace) -> None:
    archs = list(space.enumerate())[:40]
    rows = space.encode(archs)
    assert rows.shape == (len(archs), space.width)
    assert [space.decode(row) for row in rows] == archs
    assert len(np.unique(rows, axis=0)) == len(archs)
    start = 0
    for choice in space.choices:  # one column in a block of an active choice, none in that of a sleeping one
        block = rows[:, start : start + len(choice.options)]
        start += len(choice.options)
        assert block.sum(axis=1).tolist() == [float(choice.name in arch) for arch in archs]
        for row, arch in zip(block, archs, strict=True):
            if choice.name in arch:
                assert choice.options[int(row.argmax())] == arch[choice.name]


def test_encoding_nothing_has_the_right_shape() -> None:
    assert TREE.encode([]).shape == (0, TREE.width)


@quick
@given(left=spaces("a", 3), right=spaces("b", 3))
def test_spaces_add_up(left: SearchSpace, right: SearchSpace) -> None:
    both = left + right
    assert both.name == "a+b"
    assert both.count() == left.count() * right.count()
    assert both.width == left.width + right.width
    expected = {ArchConfig({**one, **two}).key for one in left.enumerate() for two in right.enumerate()}
    assert {arch.key for arch in both.enumerate()} == expected


def test_a_space_does_not_add_to_itself() -> None:
    with pytest.raises(ArchError, match=r"named once.*'dilation'"):
        TREE + TREE


def test_options_are_picked_evenly() -> None:
    rng = np.random.default_rng(0)
    picks = [TREE.sample(rng)["kind"] for _ in range(3000)]
    for option in ("none", "conv", "attention"):
        assert abs(picks.count(option) - 1000) < 5 * (3000 * 2 / 9) ** 0.5  # five standard deviations


def test_sleeping_choices_are_checked_and_dropped() -> None:
    arch = TREE.arch({"kind": "none", "kernel": 3, "width": 1.0})
    assert dict(arch) == {"kind": "none", "width": 1.0}
    with pytest.raises(ArchError, match=r"kernel = 7 is not allowed; .*Allowed: 3, 5"):
        TREE.arch({"kind": "none", "kernel": 7, "width": 1.0})


def test_one_number_written_in_two_ways_is_one_architecture() -> None:
    assert TREE.arch({"kind": "none", "width": 1}).key == TREE.arch({"kind": "none", "width": 1.0}).key


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        ({"kind": "none", "widht": 1.0}, "'widht' is no choice of space 'tree'; did you mean 'width'?"),
        ({"kind": "conf", "width": 1.0}, "kind = 'conf' is not allowed; did you mean 'conv'? Allowed: none, conv, attention"),
        ({"kind": "none"}, "width has no pick; choose one of 0.5, 1.0"),
        ({"kind": "attention", "width": 1.0}, "heads has no pick; choose one of 1, 2, 4"),
    ],
)
def test_an_error_names_the_choice_and_what_is_allowed(picks: dict[str, int | float | str], message: str) -> None:
    with pytest.raises(ArchError) as caught:
        TREE.arch(picks)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([Choice("a", (1,)), Choice("a", (2,))], r"named once: \['a'\]"),
        ([Choice("b", (1,), ("a", (1,))), Choice("a", (1,))], "a choice that comes before"),
        ([Choice("a", (1,)), Choice("b", (1,), ("a", (2,)))], "options it has: b has"),
    ],
)
def test_a_space_that_contradicts_itself_is_refused(choices: list[Choice], message: str) -> None:
    with pytest.raises(ArchError, match=message):
        SearchSpace("bad", choices)


def test_a_choice_has_options_that_differ() -> None:
    with pytest.raises(ArchError, match="at least one option: a has none"):
        Choice("a", ())
    with pytest.raises(ArchError, match="differ from each other: a has"):
        Choice("a", (1, 2, 1.0))
