"""Compares what was predicted of proposals, when they were proposed, with what was then measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from nas.core import ArchConfig, Evaluation, Objective, PredictorReport
from nas.search.finalists import Finalists

WINDOW = 100  # latest proposals that a report is about


class Watch:
    """Keeps the predictions of proposals until they are measured.

    Args:
        metrics: What is predicted.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = tuple(metrics)
        self._rows = 0
        self._open: dict[str, dict[str, tuple[float, float]]] = {}  # key of the architecture, metric, mean and std
        self._closed: dict[str, deque[tuple[float, float, float]]] = {m: deque(maxlen=WINDOW) for m in metrics}

    def propose(
        self,
        archs: Sequence[ArchConfig],
        objectives: Sequence[Objective],
        finalists: Finalists,
        chosen: Sequence[int],
        rows: int,
    ) -> None:
        """Note what is predicted of the chosen ones of `archs`, by surrogates fitted to so many rows."""
        self._rows = rows
        for j, (objective, model) in enumerate(zip(objectives, finalists.models, strict=True)):
            if objective.metric in self._metrics:
                mean, std = finalists.mean[chosen, j], finalists.std[chosen, j]
                low, middle, high = (model.warp.inverse(mean + k * std) for k in (-1.0, 0.0, 1.0))
                for i, m, s in zip(chosen, objective.sign * middle, 0.5 * (high - low), strict=True):
                    self._open.setdefault(archs[i].key, {})[objective.metric] = float(m), float(s)

    def tell(self, done: Sequence[Evaluation]) -> None:
        """Close the predictions of what was measured; failed evaluations measured nothing."""
        for row in done:
            for metric, (mean, std) in self._open.pop(row.arch.key, {}).items():
                truth = row.metrics.get(metric, np.nan)
                if not row.failure and np.isfinite(truth):
                    self._closed[metric].append((float(truth), mean, std))

    def reports(self) -> list[PredictorReport]:
        """Return a report for each metric of which at least two proposals were measured."""
        from predictors.quality import quality

        reports = []
        for metric, closed in self._closed.items():
            if len(closed) >= 2:
                truth, mean, std = np.array(closed).T
                measures = quality(truth, mean, std)
                reports.append(
                    PredictorReport(
                        metric,
                        "search_surrogate",
                        self._rows,
                        len(closed),
                        measures,
                        tuple(truth.tolist()),
                        tuple(mean.tolist()),
                    )
                )
        return reports
