"""Objectives, limits and preferences as a user writes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_spaces import quick

from nas.core import Objective, ObjectiveError, parse_limit, parse_preference, to_minimise


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("latency_ms@local<=5", Objective("latency_ms@local", "min", 5.0)),
        (" latency_ms@raspberry-pi-4 <= 12.5 ", Objective("latency_ms@raspberry-pi-4", "min", 12.5)),
        ("miou.seg>=0.3", Objective("miou.seg", "max", 0.3)),
        ("macs<=1e8", Objective("macs", "min", 1e8)),
        ("delta_m>=-2.5", Objective("delta_m", "max", -2.5)),
        ("size_bytes<=+1.5E+6", Objective("size_bytes", "min", 1.5e6)),
    ],
)
def test_a_limit_is_read(text: str, objective: Objective) -> None:
    assert parse_limit(text) == objective


@pytest.mark.parametrize(
    "text", ["", "macs", "macs<5", "macs<=", "macs<=five", "<=5", "macs<=5ms", "macs<=1e", "macs<=nan", "a b<=1"]
)
def test_what_is_no_limit_is_quoted(text: str) -> None:
    with pytest.raises(ObjectiveError) as caught:
        parse_limit(text)
    assert repr(text) in str(caught.value)
    assert "METRIC<=NUMBER" in str(caught.value)


def test_an_infinite_limit_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="a limit is a finite number: macs has inf"):
        parse_limit("macs<=1e999")


def test_a_direction_is_min_or_max() -> None:
    with pytest.raises(ObjectiveError, match="a direction is min or max: macs has 'minimise'"):
        Objective("macs", "minimise")  # type: ignore[arg-type]


def test_the_device_of_a_latency() -> None:
    assert Objective("latency_ms@local").device == "local"
    assert Objective("macs").device is None


@quick
@given(value=st.floats(-1e6, 1e6), limit=st.floats(-1e6, 1e6))
def test_a_violation_is_positive_exactly_where_a_limit_is_crossed(value: float, limit: float) -> None:
    assert (Objective("macs", "min", limit).violation(value) > 0) == (value > limit)
    assert (Objective("macs", "max", limit).violation(value) > 0) == (value < limit)
    assert Objective("macs").violation(value) == 0


def test_values_to_minimise() -> None:
    objectives = [Objective("error.seg"), Objective("miou.seg", "max"), Objective("macs")]
    values = to_minimise(objectives, [{"error.seg": 0.4, "miou.seg": 60.0, "macs": 5.0}, {"error.seg": 0.3, "macs": 7.0}])
    np.testing.assert_array_equal(values, [[0.4, -60.0, 5.0], [0.3, math.nan, 7.0]])
    assert to_minimise(objectives, []).shape == (0, 3)


TASKS = ("seg", "depth", "normals")


@quick
@given(weights=st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
def test_preferences_sum_to_one_and_keep_their_ratios(weights: list[int]) -> None:
    found = parse_preference(",".join(f"{task}={w}" for task, w in zip(TASKS, weights, strict=True)), TASKS)
    assert list(found) == list(TASKS)
    assert sum(found.values()) == pytest.approx(1.0)
    for task, weight in zip(TASKS, weights, strict=True):
        assert found[task] * sum(weights) == pytest.approx(weight)


def test_tasks_that_are_not_named_get_zero() -> None:
    assert parse_preference(" depth = 2 ", TASKS) == {"seg": 0.0, "depth": 1.0, "normals": 0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dept=1", "'dept' is none; did you mean 'depth'? Allowed: seg, depth, normals"),
        ("seg=much", "a preference reads TASK=NUMBER: got 'seg=much'; write for example seg=0.5"),
        ("seg", "a preference reads TASK=NUMBER: got 'seg'"),
        ("seg=-1", "a preference is zero or more: seg has -1"),
        ("seg=inf", "a preference is zero or more: seg has inf"),
        ("seg=nan", "a preference is zero or more: seg has nan"),
        ("seg=0,depth=0", "preferences sum to more than zero: got 'seg=0,depth=0'"),
    ],
)
def test_an_unreadable_preference_says_how_to_write_it(text: str, message: str) -> None:
    with pytest.raises(ObjectiveError) as caught:
        parse_preference(text, TASKS)
    assert message in str(caught.value)
