"""Measure a batch, fit, propose the next: Gaussian processes for what must be measured, exact counts for the rest.

Each objective without an exact function gets a Gaussian process on masked one-hots. Evolution over thousands of candidates
minimises optimistic estimates (mean - k std) under many preferences at once, and the batch is picked by greedy hypervolume
improvement, so that it spreads over the front. The loop is that of LINAS (Cummings et al., 2022) with another predictor,
another acquisition and another choice of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nas.core import ArchConfig, FloatArray, Objective, Predictor, SearchSpace, pareto_mask
from nas.search.codes import Coder, Codes
from nas.search.history import Exact, HistorySearcher
from nas.search.improvement import chebyshev_survivors, greedy_hypervolume
from nas.search.start import stratified_start

START = 20  # evaluations before the first fit
OPTIMISM = 0.5  # standard deviations below the mean
GENERATIONS = 10
CHILDREN = 300  # of one generation
SURVIVORS = 150

Estimate = Callable[[Codes], FloatArray]  # codes (n, choices) to optimistic values (n, m), minimised


class PredictorSearcher(HistorySearcher):
    """Proposes what fitted predictors expect to improve the front most."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact) -> None:
        super().__init__(space, objectives, seed, exact)
        self._coder = Coder(space)
        self._signs = np.array([objective.sign for objective in self.objectives])
        self._limits = np.array([np.inf if o.limit is None else o.sign * o.limit for o in self.objectives])

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield a start that covers all sizes, then what improves the front, then random architectures of all sizes."""
        if len(self.archs) < START:
            start = stratified_start(self.space, START, self.seed)
            yield from (arch for arch in start if not self.is_seen(arch))
        else:
            yield from self._improvements(count, rng)
        while True:
            yield from self._coder.decode(self._coder.canonical(self._coder.sample(rng.random(1), rng)))

    def _improvements(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        measured = np.array(self.values) * self._signs
        codes, values = self._evolve(self._fit(measured), measured, rng)
        violation = self._violation(values, measured)
        feasible = measured[(measured <= self._limits).all(axis=1)]
        front = feasible[pareto_mask(feasible)]
        scope = front if len(front) else measured
        margin = 0.1 * np.where(np.ptp(scope, axis=0) > 0, np.ptp(scope, axis=0), 1.0)
        reference = np.minimum(scope.max(axis=0) + margin, self._limits)
        chosen = greedy_hypervolume(values, front, reference, count, rng)
        rest = chebyshev_survivors(values, violation, 4 * count, rng)
        order = [*chosen, *(index for index in rest.tolist() if index not in set(chosen))]
        yield from self._coder.decode(codes[order])

    def _fit(self, measured: FloatArray) -> Estimate:
        from predictors import make_predictor  # loads SciPy, which the other searchers do without

        features = self._coder.one_hot(self._coder.encode(self.archs))
        models: list[Predictor | None] = []
        for column, objective in enumerate(self.objectives):
            if objective.metric in self.exact:
                models.append(None)
            else:
                model = make_predictor("gaussian_process")
                model.fit(features, measured[:, column])
                models.append(model)

        def estimate(codes: Codes) -> FloatArray:
            values = np.empty((len(codes), len(models)))
            archs = self._coder.decode(codes) if self.exact else []
            rows = self._coder.one_hot(codes)
            for column, (objective, model) in enumerate(zip(self.objectives, models, strict=True)):
                if model is None:
                    values[:, column] = objective.sign * self.exact[objective.metric](archs)
                else:
                    mean, std = model.predict(rows)
                    values[:, column] = mean - OPTIMISM * std
            return values

        return estimate

    def _violation(self, values: FloatArray, measured: FloatArray) -> FloatArray:
        """Return shape (n,): by how much limits are crossed, in units of the measured ranges."""
        spans = np.where(np.ptp(measured, axis=0) > 0, np.ptp(measured, axis=0), 1.0)
        crossed: FloatArray = (np.maximum(values - self._limits, 0.0) / spans).sum(axis=1)
        return crossed

    def _evolve(self, estimate: Estimate, measured: FloatArray, rng: np.random.Generator) -> tuple[Codes, FloatArray]:
        """Return unseen candidates, codes (n, choices) and estimates (n, m), that do well under some preference."""
        coder = self._coder
        parents, parent_values = coder.encode(self.archs), measured
        met = {row.tobytes() for row in coder.encode([*self.archs, *self.waiting.values()])}
        found: list[Codes] = []
        found_values: list[FloatArray] = []
        children = coder.sample(rng.random(CHILDREN), rng)
        for _ in range(GENERATIONS):
            children = np.unique(coder.canonical(children), axis=0)
            children = children[[row.tobytes() not in met for row in children]]
            met.update(row.tobytes() for row in children)
            if len(children):
                values = estimate(children)
                found.append(children)
                found_values.append(values)
                parents, parent_values = np.concatenate([parents, children]), np.concatenate([parent_values, values])
            keep = chebyshev_survivors(parent_values, self._violation(parent_values, measured), SURVIVORS, rng)
            parents, parent_values = parents[keep], parent_values[keep]
            pairs = coder.fill(parents[rng.integers(len(parents), size=(2 * CHILDREN,))], rng)
            crossed = coder.cross(pairs[:CHILDREN], pairs[CHILDREN:], rng)
            children = coder.mutate(crossed, rng.integers(1, 4, size=CHILDREN).astype(float), rng)
        if not found:
            return np.empty((0, len(coder.sizes)), dtype=np.int16), np.empty((0, len(self.objectives)))
        codes, values = np.concatenate(found), np.concatenate(found_values)
        keep = chebyshev_survivors(values, self._violation(values, measured), 2 * SURVIVORS, rng)
        return codes[keep], values[keep]
