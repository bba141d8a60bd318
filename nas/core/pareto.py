"""Pareto fronts and hypervolume; everything is minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core.types import BoolArray, FloatArray

BLOCK = 256  # rows compared with the front at a time
Places = NDArray[np.int64]


def pareto_mask(values: FloatArray) -> BoolArray:
    """Return which rows no other row dominates.

    Args:
        values: Shape (n, m), all minimised. A row with a NaN is never on the front and dominates nothing.

    Returns:
        Shape (n,). Equal rows are all kept. An empty input gives an empty mask.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return np.zeros(len(values), dtype=bool)
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    # The place of a value among those of its column says as much as the value, and sums of places are exact: who is at least
    # as good everywhere and has the smaller sum dominates. Sorted by sum, whoever dominates a row stands before it.
    places = np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values[known].T])
    sums = places.sum(axis=0)
    order = np.argsort(sums, kind="stable")
    front = np.empty(0, dtype=int)
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        block = block[~_dominated(places, sums, front, block)]
        front = np.concatenate([front, block[~_dominated(places, sums, block, block)]])
    mask: BoolArray = np.zeros(len(values), dtype=bool)
    mask[known[front]] = True
    return mask


def _dominated(places: Places, sums: Places, by: Places, rows: Places) -> BoolArray:
    """Return which of `rows` one of the rows `by` dominates; both are positions in `sums`, and columns of `places`, (m, n)."""
    worse = sums[by, None] < sums[rows]
    for column in places:
        worse &= column[by, None] <= column[rows]
    return np.asarray(worse.any(axis=0))


def hypervolume(values: FloatArray, reference: FloatArray) -> float:
    """Return the Lebesgue measure of what `values` dominate below `reference`.

    A sweep in two dimensions, the WFG recursion (While, Bradstreet and Barone, 2012) in more.

    Args:
        values: Shape (n, m), all minimised. Rows that do not beat the reference everywhere add nothing.
        reference: Shape (m,).

    Returns:
        Zero for an empty set.
    """
    reference = np.asarray(reference, dtype=float)
    points = np.asarray(values, dtype=float).reshape(-1, len(reference))
    points = points[(points < reference).all(axis=1)]
    return _wfg(points[pareto_mask(points)], reference)


def _wfg(points: FloatArray, reference: FloatArray) -> float:
    if len(points) == 0:
        return 0.0
    points = np.unique(points, axis=0)
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    if points.shape[1] == 2:
        heights = -np.diff(np.concatenate([[reference[1]], points[:, 1]]))
        return float(((reference[0] - points[:, 0]) * heights).sum())
    total = 0.0
    for i, point in enumerate(points):
        limited = np.maximum(points[i + 1 :], point)  # the part of the later points that this one covers too
        total += float(np.prod(reference - point)) - _wfg(limited[pareto_mask(limited)], reference)
    return total
