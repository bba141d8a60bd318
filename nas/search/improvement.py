"""Which of many candidates to measure next: greedy hypervolume improvement, and survival along the whole front."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import FloatArray, pareto_mask

SAMPLES = 1 << 15  # points of the Monte-Carlo volume, before those that cannot matter are dropped


def chebyshev_survivors(values: FloatArray, violation: FloatArray, keep: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return indices of rows that are good under some preference between the objectives, the best of each first.

    Args:
        values: Shape (n, m), minimised.
        violation: Shape (n,): how far limits are crossed; any row that keeps them beats any that does not.
        keep: About how many to return.
        rng: Draws the preferences, uniform on the simplex, besides one for each objective alone.
    """
    ranks_each = 4 if values.shape[1] > 1 else keep  # one objective has one preference
    low, high = values.min(axis=0), values.max(axis=0)
    columns = np.ascontiguousarray(((values - low) / np.where(high > low, high - low, 1.0)).T, dtype=np.float32)
    worse = (1e3 * violation).astype(np.float32)
    preferences = rng.dirichlet(np.ones(values.shape[1]), size=max(1, keep // ranks_each))
    count = min(ranks_each, len(values))
    best = np.empty((len(preferences) + values.shape[1], count), dtype=np.intp)
    for i, preference in enumerate(np.concatenate([np.eye(values.shape[1]), preferences]).astype(np.float32)):
        scores = weighted_chebyshev(columns, preference) + worse
        some = np.argpartition(scores, count - 1)[:count]
        best[i] = some[scores[some].argsort()]
    _, first = np.unique(best.T.ravel(), return_index=True)
    return best.T.ravel()[np.sort(first)]


def weighted_chebyshev(columns: NDArray[Any], preference: NDArray[Any]) -> NDArray[Any]:
    """Return the augmented weighted Chebyshev scalarisation (Steuer and Choo, 1983), shape (n,), of objectives (m, n)."""
    scores: NDArray[Any] = columns[0] * preference[0]
    for column, weight in zip(columns[1:], preference[1:], strict=True):
        np.maximum(scores, column * weight, out=scores)
    scores += (1e-3 * preference) @ columns
    return scores


def greedy_hypervolume(
    candidates: FloatArray, front: FloatArray, reference: FloatArray, count: int, rng: np.random.Generator
) -> list[int]:
    """Return at most `count` candidates, each the one that adds most hypervolume to the front and those before it.

    The volume is a Monte-Carlo estimate, whose cost grows linearly with the number of objectives.

    Args:
        candidates: Shape (n, m), minimised.
        front: Shape (k, m): what is dominated already.
        reference: Shape (m,): the upper corner of the volume.
        count: Most indices to return; fewer come back when no other candidate adds anything.
        rng: Draws the points.
    """
    inside = np.flatnonzero((candidates < reference).all(axis=1))
    inside = inside[pareto_mask(candidates[inside])]
    if len(inside) == 0:
        return []
    low = candidates[inside].min(axis=0)
    points = low[:, None] + (reference - low)[:, None] * rng.random((len(low), SAMPLES))  # (m, points)
    for row in front:
        points = points[:, (points < row[:, None]).any(axis=0)]
    gains = np.array([(points >= row[:, None]).all(axis=0) for row in candidates[inside]])  # (inside, points)
    chosen: list[int] = []
    while len(chosen) < count:
        totals = gains.sum(axis=1)
        best = int(totals.argmax())
        if totals[best] == 0:
            break
        chosen.append(int(inside[best]))
        gains = gains[:, ~gains[best]]
    return chosen


def expected_improvement(better: NDArray[np.float32], count: int) -> list[int]:
    """Return at most `count` candidates, each the one that is expected to cover most of what those before it leave open.

    Args:
        better: Chance that a candidate is at least as good as a point in everything, shape (candidates, points), for points
            that are spread evenly over the volume that the front leaves open; candidates are taken to be independent.
        count: Most indices to return; fewer come back when no other candidate can add anything.
    """
    uncovered = np.ones(better.shape[1], dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(count, len(better)):
        gains = better @ uncovered
        gains[chosen] = 0.0
        best = int(gains.argmax())
        if gains[best] <= 0.0:
            break
        chosen.append(best)
        uncovered *= 1.0 - better[best]
    return chosen


def open_points(front: FloatArray, low: FloatArray, reference: FloatArray, most: int, rng: np.random.Generator) -> FloatArray:
    """Return at most `most` points, shape (k, m), uniform in the part of the box that no row of the front dominates."""
    points = low[:, None] + (reference - low)[:, None] * rng.random((len(low), SAMPLES))  # (m, points)
    for row in front:
        points = points[:, (points < row[:, None]).any(axis=0)]
    return points[:, :most].T
