"""Which evaluations are on the front, and which of them is recommended."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_spaces import quick

from nas.core import ArchConfig, Evaluation, Objective, ObjectiveError, Source, front, recommend
from nas.core.preference import measured_tasks

COST = "latency_ms@local"
OBJECTIVES = (Objective("error.seg"), Objective("error.depth"), Objective(COST))


def evaluation(index: int, seg: float, depth: float, cost: float) -> Evaluation:
    metrics = {"error.seg": seg, "error.depth": depth, COST: cost, "miou.seg": 100 * (1 - seg)}
    return Evaluation(ArchConfig({"index": index}), metrics, Source.MEASURED, "verify")


SMALL, MIDDLE, LARGE = evaluation(0, 0.8, 1.5, 1.0), evaluation(1, 0.5, 1.2, 3.0), evaluation(2, 0.4, 0.6, 9.0)
WORSE = evaluation(3, 0.6, 1.3, 3.5)
ROWS = (LARGE, WORSE, SMALL, MIDDLE)


def test_a_front_is_ordered_by_cost() -> None:
    assert front(ROWS, OBJECTIVES) == [SMALL, MIDDLE, LARGE]


def test_a_front_without_a_cost_is_ordered_by_its_first_objective() -> None:
    crossed = [evaluation(0, 0.5, 0.5, 1), evaluation(1, 0.4, 0.6, 1), evaluation(2, 0.6, 0.4, 1)]
    ordered = front(crossed, (Objective("error.seg"), Objective("error.depth")))
    assert [row.metrics["error.seg"] for row in ordered] == [0.4, 0.5, 0.6]
    ordered = front(crossed, (Objective("miou.seg", "max"), Objective("error.depth")))
    assert [row.metrics["miou.seg"] for row in ordered] == pytest.approx([60.0, 50.0, 40.0])


def test_the_name_of_a_device_makes_no_cost_a_task() -> None:
    rows = [evaluation(0, 0.5, 1, 3), evaluation(1, 0.4, 1, 9)]
    rows = [dataclasses.replace(row, metrics={**row.metrics, "latency_ms@pi.home": row.metrics[COST]}) for row in rows]
    assert front(rows, (Objective("latency_ms@pi.home"), Objective("error.seg"))) == rows


def test_only_what_was_measured_is_on_the_front() -> None:
    best = evaluation(9, 0.0, 0.0, 0.0)
    without = {name: value for name, value in best.metrics.items() if name != COST}
    for intruder in (
        dataclasses.replace(best, source=Source.PREDICTED),
        dataclasses.replace(best, failure="out of memory"),
        dataclasses.replace(best, metrics={**best.metrics, "error.seg": math.nan}),
        dataclasses.replace(best, metrics=without),
        dataclasses.replace(best, metrics={}, failure="out of memory"),
    ):
        assert front((*ROWS, intruder), OBJECTIVES) == [SMALL, MIDDLE, LARGE]
    assert front((*ROWS, best), OBJECTIVES) == [best]


def test_limits_come_before_dominance() -> None:
    assert front(ROWS, (*OBJECTIVES[:2], Objective(COST, "min", 3.0))) == [SMALL, MIDDLE]
    assert front(ROWS, (Objective("miou.seg", "max", 50.0), Objective(COST))) == [MIDDLE, LARGE]
    # What only points beyond a limit dominate is on the front within it.
    assert front(
        (WORSE, evaluation(4, 0.1, 0.1, 2.0)), (Objective("error.seg", "min", 0.7), Objective("error.depth", "max", 1.0))
    ) == [WORSE]
    assert front(ROWS, (*OBJECTIVES[:2], Objective(COST, "min", 0.5))) == []
    assert front((), OBJECTIVES) == []


numbers = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])
points = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8).map(
    lambda rows: [evaluation(i, *row) for i, row in enumerate(rows)]
)


def scaled(points: list[Evaluation], task: str) -> list[float]:
    errors = [p.metrics[f"error.{task}"] for p in points]
    return [(e - min(errors)) / (max(errors) - min(errors)) if max(errors) > min(errors) else 0.0 for e in errors]


@quick
@given(points=points, weight=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), limit=numbers)
def test_a_recommendation_is_the_best_of_those_within_the_limit(points: list[Evaluation], weight: float, limit: float) -> None:
    preference = {"seg": weight, "depth": 1 - weight}
    scores = {
        p.arch.key: weight * s + (1 - weight) * d
        for p, s, d in zip(points, scaled(points, "seg"), scaled(points, "depth"), strict=True)
    }
    within = [p for p in points if p.metrics[COST] <= limit]
    if not within:
        with pytest.raises(ObjectiveError, match=f"nearest has {min(p.metrics[COST] for p in points):g}"):
            recommend(points, [Objective(COST, "min", limit)], preference, COST)
        return
    chosen = recommend(points, [Objective(COST, "min", limit)], preference, COST)
    assert chosen in within
    lowest = min(scores[p.arch.key] for p in within)
    assert scores[chosen.arch.key] == pytest.approx(lowest, abs=1e-9)
    ties = [p.metrics[COST] for p in within if abs(scores[p.arch.key] - lowest) < 1e-12]
    assert chosen.metrics[COST] == min(ties)


@quick
@given(points=points, low=st.floats(0, 1), high=st.floats(0, 1))
def test_caring_more_for_a_task_never_makes_it_worse(points: list[Evaluation], low: float, high: float) -> None:
    low, high = sorted((round(low, 3), round(high, 3)))
    less, more = (recommend(points, [], {"seg": w, "depth": 1 - w}, COST).metrics["error.seg"] for w in (low, high))
    assert more <= less + 1e-9 or low == high


def test_a_recommendation_by_hand() -> None:
    rows = [SMALL, MIDDLE, LARGE]
    assert recommend(rows, [], {"seg": 1.0, "depth": 0.0}, COST) == LARGE
    assert recommend(rows, [Objective(COST, "min", 5.0)], {"seg": 0.5, "depth": 0.5}, COST) == MIDDLE
    assert recommend(rows, [Objective("miou.seg", "max", 50.0)], {"seg": 0.5, "depth": 0.5}, COST) == LARGE
    # No preference between equal errors: the cheaper one.
    assert recommend([evaluation(5, 0.4, 0.6, 2.0), LARGE], [], {"seg": 0.5, "depth": 0.5}, COST).metrics[COST] == 2.0


def test_metres_weigh_no_more_than_shares() -> None:
    rows = [evaluation(0, 0.2, 900.0, 1), evaluation(1, 0.5, 100.0, 1), evaluation(2, 0.3, 300.0, 1)]
    # Scaled: (0, 1), (1, 0), (1/3, 1/4); in raw units the second would win.
    assert recommend(rows, [], {"seg": 0.5, "depth": 0.5}, COST) == rows[2]


@pytest.mark.parametrize(
    ("limits", "preference", "message"),
    [
        (("latency_ms@locl", "min", 5.0), {}, "'latency_ms@locl' is none; did you mean 'latency_ms@local'?"),
        ((COST, "min", 0.25), {}, "no point of the front keeps latency_ms@local<=0.25; the nearest has 1"),
        (("miou.seg", "max", 70.0), {}, "no point of the front keeps miou.seg>=70; the nearest has 60"),
        (None, {"dept": 1.0}, "'dept' is none; did you mean 'depth'? Allowed: seg, depth"),
    ],
)
def test_an_error_names_the_nearest(limits: tuple[str, str, float] | None, preference: dict[str, float], message: str) -> None:
    with pytest.raises(ObjectiveError) as caught:
        recommend([SMALL, MIDDLE, LARGE], [Objective(*limits)] if limits else [], preference, COST)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_the_nearest_of_two_limits_is_among_those_that_keep_the_first() -> None:
    with pytest.raises(ObjectiveError, match=r"keeps error\.seg<=0\.3; the nearest has 0\.5"):
        recommend([SMALL, MIDDLE, LARGE], [Objective(COST, "min", 5.0), Objective("error.seg", "min", 0.3)], {}, COST)


def test_no_points_is_no_recommendation() -> None:
    with pytest.raises(ObjectiveError, match="needs a measured front: this one is empty"):
        recommend([], [], {"seg": 1.0}, COST)


NAN = math.nan


def test_a_task_that_was_not_measured_spoils_no_choice() -> None:
    rows = [evaluation(0, 0.8, NAN, 1.0), evaluation(1, 0.5, NAN, 3.0), evaluation(2, 0.4, NAN, 9.0)]
    for order in (rows, rows[::-1]):
        assert recommend(order, [], {"seg": 1.0, "depth": 0.0}, COST) == rows[2]
        assert recommend(order, [], None, COST) == rows[2]  # all alike that were measured
        with pytest.raises(ObjectiveError, match=r"no point has a number for all of error\.depth; weigh other tasks"):
            recommend(order, [], {"seg": 0.0, "depth": 1.0}, COST)
        with pytest.raises(ObjectiveError, match=r"all of error\.seg, error\.depth"):
            recommend(order, [], {"seg": 0.5, "depth": 0.5}, COST)
    assert measured_tasks(rows) == ["seg"]
    with pytest.raises(ObjectiveError, match="whose error was measured: there is none"):
        recommend([evaluation(0, NAN, NAN, 1.0)], [], None, COST)


@pytest.mark.parametrize("worst", [NAN, math.inf])
def test_a_point_without_a_number_is_never_the_best(worst: float) -> None:
    broken = evaluation(0, worst, 0.1, 0.1)
    for order in ([broken, MIDDLE, LARGE], [LARGE, MIDDLE, broken]):
        assert recommend(order, [], {"seg": 1.0, "depth": 0.0}, COST) == LARGE
        assert recommend(order, [], {"seg": 0.0, "depth": 1.0}, COST) == broken  # nothing is wrong with its depth
    tie = dataclasses.replace(MIDDLE, arch=broken.arch, metrics={**MIDDLE.metrics, COST: NAN})
    assert recommend([tie, MIDDLE], [], {"seg": 1.0, "depth": 0.0}, COST) == MIDDLE
    with pytest.raises(ObjectiveError, match=r"keeps latency_ms@local<=0\.5; the nearest has 3$"):
        recommend([tie, MIDDLE], [Objective(COST, "min", 0.5)], {"seg": 1.0}, COST)
