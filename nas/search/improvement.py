"""Which of many candidates to measure next: greedy hypervolume improvement, and survival along the whole front."""

from __future__ import annotations

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
    ranks_each = 4
    preferences = rng.dirichlet(np.ones(values.shape[1]), size=max(1, keep // ranks_each))
    preferences = np.concatenate([np.eye(values.shape[1]), preferences])
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    scores = (scaled[None] * preferences[:, None]).max(axis=2) + 1e-3 * (scaled @ preferences.T).T + 1e3 * violation
    count = min(ranks_each, len(values))
    best = np.argpartition(scores, count - 1, axis=1)[:, :count]
    best = np.take_along_axis(best, np.take_along_axis(scores, best, axis=1).argsort(axis=1), axis=1)
    _, first = np.unique(best.T.ravel(), return_index=True)
    return best.T.ravel()[np.sort(first)]


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
