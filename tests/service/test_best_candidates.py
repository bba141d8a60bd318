"""Which candidates are verified: those within the limits first, front by front, never one twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import ArchConfig, Evaluation, Objective, Source
from nas.service.selection import best_candidates

OBJECTIVES = (Objective("error.seg"), Objective("macs", limit=50.0))
NUMBERS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=20)


def rows(points: list[tuple[int, int]]) -> list[Evaluation]:
    return [
        Evaluation(ArchConfig({"n": n}), {"error.seg": a / 100, "macs": float(b)}, Source.PREDICTED, "search")
        for n, (a, b) in enumerate(points)
    ]


@given(NUMBERS, st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_choices_are_distinct_as_many_as_asked_and_the_same_again(points: list[tuple[int, int]], count: int) -> None:
    chosen = best_candidates(rows(points), OBJECTIVES, count, 0)
    assert len({arch.key for arch in chosen}) == len(chosen) == min(count, len(points))
    assert chosen == best_candidates(rows(points), OBJECTIVES, count, 0)


@given(NUMBERS, st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_limits_come_first_and_then_the_front(points: list[tuple[int, int]], count: int) -> None:
    chosen = [int(arch["n"]) for arch in best_candidates(rows(points), OBJECTIVES, count, 0)]
    left_out = set(range(len(points))) - set(chosen)
    within = [points[n][1] <= 50 for n in chosen]
    assert within == sorted(within, reverse=True)
    if left_out and not all(within):
        assert all(points[n][1] > 50 for n in left_out)
    beyond = [points[n][1] for n in chosen if points[n][1] > 50]
    assert beyond == sorted(beyond)  # the nearest to the limit first
    # No point within the limits is taken while one that dominates it is left out.
    for n in left_out:
        if points[n][1] <= 50:
            assert not any(
                points[n][0] <= points[m][0] and points[n][1] <= points[m][1] and points[n] != points[m] for m in chosen
            )


def test_failed_and_incomplete_candidates_are_never_chosen() -> None:
    good, *_ = rows([(10, 10)])
    failed = Evaluation(ArchConfig({"n": 7}), {}, Source.MEASURED, "search", failure="it broke")
    nan = Evaluation(ArchConfig({"n": 8}), {"error.seg": np.nan, "macs": 1.0}, Source.PREDICTED, "search")
    assert best_candidates([failed, nan, good], OBJECTIVES, 5, 0) == [good.arch]
    assert best_candidates([failed, nan], OBJECTIVES, 5, 0) == []


@pytest.mark.parametrize("count", [2, 3])
def test_a_small_choice_covers_the_front(count: int) -> None:
    points = [(0, 40), (1, 39), (2, 38), (20, 20), (21, 19), (40, 0)]
    chosen = {int(arch["n"]) for arch in best_candidates(rows(points), OBJECTIVES, count, 0)}
    assert chosen & {3, 4}  # the middle, which adds the most volume
    assert len(chosen) == count
