"""Latency of any architecture of a space from the operators of a few that were timed.

The whole is not quite the sum of its parts: where a network is small its values stay in the caches, so that the same operator
is faster there. A Gaussian process of one feature, the logarithm of the sum, learns the ratio from the measured totals; on the
NYUv2 space it took the mean error from 3.1 to 2.6 % (over three draws of 40 subnets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.core import ArchConfig, DataError, FloatArray, SearchSpace
from nas.core.operator import Operator, OperatorTime
from predictors.operator_tables import CostTables, OperatorRules, option_codes
from predictors.operator_times import OperatorTimes
from predictors.quality import quality
from predictors.relative import LogGaussianProcess

KIND = "operators"  # name of this predictor in reports
LEAST_STD = 0.005  # relative; no latency is measured better

Graph = Sequence[OperatorTime]
Listed = Sequence[tuple[ArchConfig, Sequence[Operator]]]  # architectures with their operators, none of them timed


class OperatorLatency:
    """Predicts with tables that sum up the times of an architecture's operators: millions of architectures a second.

    Args:
        space: Whose architectures are predicted.

    Attributes:
        times: What was learned of single operators; holds for any network on the same device.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.times = OperatorTimes()
        self._tables = CostTables({})
        self._ratio = LogGaussianProcess()  # of the whole to the sum

    def fit(self, archs: Sequence[ArchConfig], graphs: Sequence[Graph], ms: FloatArray, listed: Listed = ()) -> None:
        """Fit to measured architectures.

        Args:
            archs: What was measured, n >= 2.
            graphs: Of each, its operators with their times.
            ms: Of each, the latency of the whole network, shape (n,).
            listed: More architectures whose operators are known but not timed: they tell which operators there are.

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
        seen = [*zip(archs, ([row.operator for row in graph] for graph in graphs), strict=True), *listed]
        rules = OperatorRules(self.space, [arch for arch, _ in seen], [graph for _, graph in seen])
        self._tables = rules.tables(self.times.predict)
        sums = self._tables.total(option_codes(self.space, archs))
        self._ratio.fit(np.log(sums)[:, None], ms / sums)

    def predict(self, archs: Sequence[ArchConfig]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation in milliseconds, each of shape (n,)."""
        if not self._tables.tables:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        return self.of_sums(self._tables.total(option_codes(self.space, archs)))

    def predict_graphs(self, graphs: Sequence[Sequence[Operator]]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation in milliseconds, each of shape (n,), of networks by their operators.

        The networks may be of any space: what was learned of operators holds for all of them.
        """
        return self.of_sums(np.array([self.times.predict(graph).sum() for graph in graphs]))

    def of_sums(self, sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of whole networks whose operators' times add up to `sums`, shape (n,)."""
        ratio, std = self._ratio.predict(np.log(sums)[:, None])
        return sums * ratio, sums * np.maximum(std, LEAST_STD)

    def state(self) -> dict[str, Any]:
        """Return what was fitted as JSON-able values."""
        return {"times": self.times.state(), "tables": self._tables.state(), "ratio": self._ratio.state()}

    @classmethod
    def from_state(cls, space: SearchSpace, state: Mapping[str, Any]) -> OperatorLatency:
        """Return the predictor of `space` whose state this is."""
        restored = cls(space)
        restored.times = OperatorTimes.from_state(state["times"])
        restored._tables = CostTables.from_state(state["tables"])
        restored._ratio = LogGaussianProcess.from_state(state["ratio"])
        return restored


def held_out_operators(
    space: SearchSpace,
    archs: Sequence[ArchConfig],
    graphs: Sequence[Graph],
    ms: FloatArray,
    rng: np.random.Generator,
    folds: int = 5,
    listed: Listed = (),
) -> tuple[dict[str, float], FloatArray, FloatArray]:
    """Cross-validate as `predictors.quality.held_out` does: rules, times and scale are learned without the subnets predicted.

    Args:
        space: Of the architectures.
        archs: What was measured, n >= 3.
        graphs: Of each, its operators with their times.
        ms: Of each, the latency, shape (n,).
        rng: Deals the rows to the folds.
        folds: How many.
        listed: As in `OperatorLatency.fit`, in every fold; what is measured among them is left out.

    Returns:
        The quality, the truth, shape (n,), and the predictions, shape (n,), in the order of the rows.

    Raises:
        DataError: Fewer than three rows.
    """
    count = len(archs)
    if count < 3:
        raise DataError(f"cross-validation needs at least 3 rows; there are {count}; measure more subnets")
    known = {arch.key for arch in archs}
    listed = [(arch, graph) for arch, graph in listed if arch.key not in known]
    fold = rng.permutation(np.arange(count) % min(folds, count))
    mean, std = np.empty(count), np.empty(count)
    for index in range(min(folds, count)):
        out, kept = np.flatnonzero(fold == index).tolist(), np.flatnonzero(fold != index).tolist()
        predictor = OperatorLatency(space)
        predictor.fit([archs[i] for i in kept], [graphs[i] for i in kept], ms[kept], listed)
        mean[out], std[out] = predictor.predict([archs[i] for i in out])
    return quality(ms, mean, std), np.asarray(ms, dtype=np.float64), mean
