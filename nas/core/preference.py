"""Picking one point of a front by what a user cares for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas.core.errors import ObjectiveError, nearest
from nas.core.evaluation import Evaluation
from nas.core.objective import Objective


def recommend(
    points: Sequence[Evaluation], limits: Sequence[Objective], preference: Mapping[str, float] | None, cost: str
) -> Evaluation:
    """Return the point within every limit whose preference-weighted error is lowest; ties go to the cheaper one.

    Each task's error is scaled to [0, 1] over `points`, so that metres and degrees weigh alike. A task without weight counts
    for nothing, whatever its error is; a point where a weighted task could not be measured is never the best.

    Args:
        points: Measured evaluations, usually a front.
        limits: Bounds that the point keeps.
        preference: Task to weight; the weights sum to one. None weighs all tasks alike that were measured.
        cost: Metric that breaks ties, minimised.

    Raises:
        ObjectiveError: There are no points, a metric or a weighted task is not measured, or no point keeps the limits; the
            message names the nearest value that one does keep.
    """
    if not points:
        raise ObjectiveError("a recommendation needs a measured front: this one is empty; let the job finish first")
    kept = list(points)
    for limit in limits:
        if any(limit.metric not in point.metrics for point in points):
            raise ObjectiveError(
                f"a limit names a measured metric: {limit.metric!r} is none; {nearest(limit.metric, points[0].metrics)}"
            )
        within = [point for point in kept if limit.violation(point.metrics[limit.metric]) <= 0]
        if not within:
            best = min((point.metrics[limit.metric] for point in kept), key=lambda value: _last(limit.violation(value)))
            sign = "<=" if limit.direction == "min" else ">="
            raise ObjectiveError(f"no point of the front keeps {limit.metric}{sign}{limit.limit:g}; the nearest has {best:.6g}")
        kept = within
    weights = _weights(points, preference)
    kept = [point for point in kept if _measured(point, weights)]
    if not kept:
        lost = ", ".join(f"error.{task}" for task in weights)
        raise ObjectiveError(
            f"a preference weighs what was measured: no point has a number for all of {lost}; weigh other tasks"
        )
    errors = np.array([[point.metrics[f"error.{task}"] for task in weights] for point in points if _measured(point, weights)])
    low, span = errors.min(axis=0), np.ptp(errors, axis=0)

    def score(point: Evaluation) -> tuple[float, float]:
        own = np.array([point.metrics[f"error.{task}"] for task in weights])
        scaled = (own - low) / np.where(span > 0, span, 1.0)
        return round(float(scaled @ np.array(list(weights.values()))), 12), _last(point.metrics.get(cost, 0.0))

    return min(kept, key=score)


def measured_tasks(points: Sequence[Evaluation]) -> list[str]:
    """Return the tasks whose error is a number at some point, in the order of the first point's metrics."""
    names = [name for name in points[0].metrics if name.startswith("error.")] if points else []
    return [
        name.removeprefix("error.")
        for name in names
        if any(math.isfinite(point.metrics.get(name, math.nan)) for point in points)
    ]


def _weights(points: Sequence[Evaluation], preference: Mapping[str, float] | None) -> dict[str, float]:
    """Return the tasks that count, with their weights."""
    if preference is None:
        tasks = measured_tasks(points)
        if not tasks:
            raise ObjectiveError("a recommendation needs a task whose error was measured: there is none; mend the test split")
        return dict.fromkeys(tasks, 1 / len(tasks))
    for task in preference:
        if f"error.{task}" not in points[0].metrics:
            tasks = [name.removeprefix("error.") for name in points[0].metrics if name.startswith("error.")]
            raise ObjectiveError(f"a preference names tasks of the job: {task!r} is none; {nearest(task, tasks)}")
    return {task: weight for task, weight in preference.items() if weight > 0}


def _measured(point: Evaluation, weights: Mapping[str, float]) -> bool:
    return all(math.isfinite(point.metrics.get(f"error.{task}", math.nan)) for task in weights)


def _last(value: float) -> float:
    """Return what is minimised, infinity where it is no number: such a one never comes first."""
    return math.inf if math.isnan(value) else value
