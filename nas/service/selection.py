"""Which of many evaluated candidates are worth measuring again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import ArchConfig, Evaluation, Objective, pareto_mask, to_minimise
from nas.search.improvement import greedy_hypervolume


def best_candidates(rows: Sequence[Evaluation], objectives: Sequence[Objective], count: int, seed: int) -> list[ArchConfig]:
    """Return at most `count` architectures: those that meet the limits and together cover the front best.

    Later fronts fill up what the first leaves open; candidates beyond a limit come last, the nearest first.
    """
    rows = [row for row in rows if not row.failure]
    values = to_minimise(objectives, [row.metrics for row in rows])
    complete = np.flatnonzero(~np.isnan(values).any(axis=1))
    rows, values = [rows[i] for i in complete], values[complete]
    if not rows:
        return []
    limits = np.array([np.inf if o.limit is None else o.sign * o.limit for o in objectives])
    beyond = np.maximum(0, (values - limits) / np.maximum(np.abs(np.where(np.isfinite(limits), limits, 1)), 1e-12)).sum(axis=1)
    scaled = (values - values.min(axis=0)) / np.maximum(np.ptp(values, axis=0), 1e-12)
    rng = np.random.default_rng([seed, 4])
    left = np.flatnonzero(beyond <= 0)
    chosen: list[int] = []
    while len(left) and len(chosen) < count:
        first = left[pareto_mask(scaled[left])]
        picks = greedy_hypervolume(
            scaled[first], np.empty((0, scaled.shape[1])), np.full(scaled.shape[1], 1.1), count - len(chosen), rng
        )
        # Where the volume, a sample, tells the last of a front apart no more, any of them is as good as another.
        chosen += [int(first[i]) for i in picks] or [int(i) for i in first[: count - len(chosen)]]
        left = np.setdiff1d(left, chosen)
    chosen += [int(i) for i in np.argsort(beyond, kind="stable") if beyond[i] > 0][: count - len(chosen)]
    return [rows[i].arch for i in chosen]
