"""Candidates scored on a part of the validation images first: who goes on, and how far the part's order can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.core import ArchConfig, Evaluation
from nas.data import Split
from predictors.quality import quality

SCREEN = "screen"  # the stage of an evaluation on a part of the images
PART = "val-part"  # its split
WIDTH = 2  # candidates screened for each that is promoted


def part_of(split: Split, share: float) -> Split:
    """Return a share of the images, evenly spread and at least one: the same for every candidate."""
    count = max(1, round(share * len(split)))
    return split.subset([i * len(split) // count for i in range(count)])


def agreement(screened: Sequence[Evaluation], full: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """Return how well the part's errors stand for those of all images, over the candidates that have both.

    Args:
        screened: Evaluations on the part.
        full: Evaluations on all images.

    Returns:
        ``error.TASK`` to ``kendall_tau``, ``mape`` (a share) and ``candidates``; absent where fewer than two have both. As
        only promising candidates have both, their range is narrow, and the rank correlation over all would be higher.
    """
    part = {row.arch.key: row.metrics for row in screened if not row.failure}
    pairs = [(part[row.arch.key], row.metrics) for row in full if not row.failure and row.arch.key in part]
    if len(pairs) < 2:
        return {}
    names = sorted(name for name in pairs[0][1] if name.startswith("error."))
    found: dict[str, dict[str, float]] = {}
    for name in names:
        both = np.array([[pair[side].get(name, np.nan) for side in (0, 1)] for pair in pairs])
        guess, truth = both[np.isfinite(both).all(axis=1)].T
        if len(truth) < 2:
            continue
        measured = quality(truth, guess, np.zeros(len(truth)))
        found[name] = {"kendall_tau": measured["kendall_tau"], "mape": measured["mape"], "candidates": len(truth)}
    return found


def summary(share: float, screened: Sequence[Evaluation], full: Sequence[Evaluation]) -> dict[str, Any]:
    """Return what the stage's result says of the screening."""
    promoted = {row.arch.key for row in full}
    return {
        "share": share,
        "screened": len(screened),
        "promoted": sum(row.arch.key in promoted for row in screened),
        "agreement": agreement(screened, full),
    }


def unpromising(screened: Sequence[Evaluation], promoted: Sequence[ArchConfig]) -> list[Evaluation]:
    """Return what a searcher is told of the candidates left behind: that they were seen, and no number."""
    keys = {arch.key for arch in promoted}
    return [
        Evaluation(row.arch, {}, row.source, row.stage, row.split, failure=row.failure or "screened out")
        for row in screened
        if row.arch.key not in keys
    ]
