"""Picking one point of a front by what a user cares for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.core.errors import ObjectiveError, nearest
from nas.core.evaluation import Evaluation
from nas.core.objective import Objective


def recommend(
    points: Sequence[Evaluation], limits: Sequence[Objective], preference: Mapping[str, float], cost: str
) -> Evaluation:
    """Return the point within every limit whose preference-weighted error is lowest; ties go to the cheaper one.

    Each task's error is scaled to [0, 1] over `points`, so that metres and degrees weigh alike.

    Args:
        points: Measured evaluations, usually a front.
        limits: Bounds that the point keeps.
        preference: Task to weight; the weights sum to one.
        cost: Metric that breaks ties, minimised.

    Raises:
        ObjectiveError: There are no points, a metric is not measured, or no point keeps the limits; the message names the
            nearest value that one does keep.
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
            best = min(kept, key=lambda point: limit.violation(point.metrics[limit.metric])).metrics[limit.metric]
            sign = "<=" if limit.direction == "min" else ">="
            raise ObjectiveError(f"no point of the front keeps {limit.metric}{sign}{limit.limit:g}; the nearest has {best:.6g}")
        kept = within
    for task in preference:
        if f"error.{task}" not in points[0].metrics:
            tasks = [name.removeprefix("error.") for name in points[0].metrics if name.startswith("error.")]
            raise ObjectiveError(f"a preference names tasks of the job: {task!r} is none; {nearest(task, tasks)}")
    errors = np.array([[point.metrics[f"error.{task}"] for task in preference] for point in points])
    low, span = errors.min(axis=0), np.ptp(errors, axis=0)
    weights = np.array(list(preference.values()))

    def score(point: Evaluation) -> tuple[float, float]:
        own = np.array([point.metrics[f"error.{task}"] for task in preference])
        scaled = (own - low) / np.where(span > 0, span, 1.0)
        return round(float(scaled @ weights), 12), point.metrics.get(cost, 0.0)

    return min(kept, key=score)
