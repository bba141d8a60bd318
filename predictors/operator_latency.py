"""Latency of any architecture of a space from the operators of a few that were timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.core import ArchConfig, DataError, FloatArray, SearchSpace
from nas.core.operator import OperatorTime
from predictors.operator_tables import CostTables, OperatorRules, option_codes
from predictors.operator_times import OperatorTimes
from predictors.quality import quality

KIND = "operators"  # name of this predictor in reports
LEAST_STD = 0.005  # relative; no latency is measured better

Graph = Sequence[OperatorTime]


class OperatorLatency:
    """Predicts with tables that sum up the times of an architecture's operators: millions of architectures a second.

    Args:
        space: Whose architectures are predicted.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.times = OperatorTimes()
        self._tables = CostTables({})
        self._relative_std = 0.0

    def fit(self, archs: Sequence[ArchConfig], graphs: Sequence[Graph], ms: FloatArray) -> None:
        """Fit to measured architectures.

        Args:
            archs: What was measured, n >= 2.
            graphs: Of each, its operators with their times.
            ms: Of each, the latency of the whole network, shape (n,). The tables are scaled to it: it is measured better
                than the operators.

        Raises:
            DataError: The lengths differ, there are fewer than two, or a latency is not positive.
        """
        ms = np.asarray(ms, dtype=np.float64)
        if len(archs) < 2 or not len(archs) == len(graphs) == len(ms) or not (ms > 0).all() or not np.isfinite(ms).all():
            raise DataError(
                f"a latency predictor is fitted to two measured subnets or more: it got {len(archs)} with {len(graphs)} graphs "
                f"and {int((np.nan_to_num(ms) > 0).sum())} positive latencies; measure more subnets"
            )
        self.times.fit(row for graph in graphs for row in graph)
        rules = OperatorRules(self.space, archs, [[row.operator for row in graph] for graph in graphs])
        tables = rules.tables(self.times.predict)
        missed = np.log(ms / tables.total(option_codes(self.space, archs)))
        scale = float(np.exp(np.median(missed)))
        self._tables = CostTables({choices: scale * table for choices, table in tables.tables.items()})
        self._relative_std = max(LEAST_STD, float(np.sqrt(np.square(missed - np.median(missed)).sum() / (len(ms) - 1))))

    def predict(self, archs: Sequence[ArchConfig]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation in milliseconds, each of shape (n,)."""
        if not self._tables.tables:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        mean = self._tables.total(option_codes(self.space, archs))
        return mean, mean * self._relative_std

    def state(self) -> dict[str, Any]:
        """Return what was fitted as JSON-able values."""
        return {"times": self.times.state(), "tables": self._tables.state(), "relative_std": self._relative_std}

    @classmethod
    def from_state(cls, space: SearchSpace, state: Mapping[str, Any]) -> OperatorLatency:
        """Return the predictor of `space` whose state this is."""
        restored = cls(space)
        restored.times = OperatorTimes.from_state(state["times"])
        restored._tables = CostTables.from_state(state["tables"])
        restored._relative_std = float(state["relative_std"])
        return restored


def held_out_operators(
    space: SearchSpace,
    archs: Sequence[ArchConfig],
    graphs: Sequence[Graph],
    ms: FloatArray,
    rng: np.random.Generator,
    folds: int = 5,
) -> tuple[dict[str, float], FloatArray, FloatArray]:
    """Cross-validate as `predictors.quality.held_out` does: rules, times and scale are learned without the subnets predicted.

    Returns:
        The quality, the truth, shape (n,), and the predictions, shape (n,), in the order of the rows.

    Raises:
        DataError: Fewer than three rows.
    """
    count = len(archs)
    if count < 3:
        raise DataError(f"cross-validation needs at least 3 rows; there are {count}; measure more subnets")
    fold = rng.permutation(np.arange(count) % min(folds, count))
    mean, std = np.empty(count), np.empty(count)
    for index in range(min(folds, count)):
        out, kept = np.flatnonzero(fold == index).tolist(), np.flatnonzero(fold != index).tolist()
        predictor = OperatorLatency(space)
        predictor.fit([archs[i] for i in kept], [graphs[i] for i in kept], ms[kept])
        mean[out], std[out] = predictor.predict([archs[i] for i in out])
    return quality(ms, mean, std), np.asarray(ms, dtype=np.float64), mean
