from __future__ import annotations

import numpy as np
import pytest
from search_problems import TWELVE, random_space, staged

from nas.core import SearchSpace
from nas.search.codes import Coder

spaces = pytest.mark.parametrize(
    "space", [TWELVE, staged(), *(random_space(seed) for seed in range(8))], ids=lambda space: space.name
)


@spaces
def test_codes_are_the_architectures_that_the_space_itself_makes(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    coder = Coder(space)
    picks = [{choice.name: choice.options[rng.integers(len(choice.options))] for choice in space.choices} for _ in range(50)]
    codes = np.array([[choice.options.index(pick[choice.name]) for choice in space.choices] for pick in picks], dtype=np.int16)
    archs = [space.arch(pick) for pick in picks]
    canonical = coder.canonical(codes)
    assert coder.decode(canonical) == archs
    assert np.array_equal(coder.encode(archs), canonical)
    assert np.array_equal(coder.one_hot(canonical), space.encode(archs))


@spaces
def test_variation_stays_inside_the_space(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    coder = Coder(space)
    left = coder.fill(coder.canonical(coder.sample(rng.random(40), rng)), rng)
    right = coder.sample(rng.random(40), rng)
    children = coder.canonical(coder.mutate(coder.cross(left, right, rng), np.full(40, 2.0), rng))
    assert all(space.arch(arch) == arch for arch in coder.decode(children))


def test_levels_zero_and_one_are_the_smallest_and_the_largest() -> None:
    space = staged()
    coder = Coder(space)
    sampled = coder.decode(coder.canonical(coder.sample(np.array([0.0, 1.0]), np.random.default_rng(0))))
    assert sampled == [space.smallest(), space.largest()]


def test_the_expected_number_of_flips_is_what_was_asked_for() -> None:
    coder = Coder(staged())
    rng = np.random.default_rng(0)
    codes = coder.sample(np.full(4000, 0.5), rng)
    flipped = (coder.mutate(codes, np.full(4000, 2.0), rng) != codes).sum(axis=1)
    assert flipped.mean() == pytest.approx(2.0, abs=0.1)
