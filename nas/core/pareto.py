"""Pareto fronts and hypervolume; everything is minimised."""

from __future__ import annotations

import numpy as np

from nas.core.types import BoolArray, FloatArray


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
    mask: BoolArray = np.asarray(~np.isnan(values).any(axis=1))
    for i in np.flatnonzero(mask):
        if mask[i]:  # else whoever dominates row i has already removed what row i dominates
            worse = (values[i] <= values).all(axis=1) & (values[i] < values).any(axis=1)
            mask &= ~worse
    return mask


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
