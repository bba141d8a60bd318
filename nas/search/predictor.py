"""Measure a batch, fit, propose the next: Gaussian processes for what must be measured, exact counts for the rest.

The loop is that of LINAS (Cummings et al., 2022) with other predictors and another choice of the batch. What can be counted is
counted for every finalist; among the many candidates before them a surrogate stands in for it too. How the batch is chosen
follows the noise: where the surrogates explain what was measured, by expected improvement of the hypervolume; where they do
not, by Thompson sampling under random preferences (Paria et al., 2020), which spreads over many candidates near the front; and
where they explain next to nothing, half of the batch are neighbours of the measured front. Wherever they leave something
unexplained, one proposal in ten is random: a surrogate that is sure of a falsehood never asks for what would refute it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nas.core import ArchConfig, BoolArray, Codes, Evaluation, FloatArray, Objective, PredictorReport, SearchSpace, pareto_mask
from nas.search.candidates import ENUMERATED, evolve, violation
from nas.search.codes import Coder
from nas.search.finalists import Finalists
from nas.search.history import Exact, HistorySearcher
from nas.search.improvement import chebyshev_survivors
from nas.search.start import stratified_start
from nas.search.surrogate import Surrogate
from nas.search.watch import Watch

START = 20  # evaluations before the first fit
ROWS = 300  # measured architectures, at most, that surrogates are fitted to
FINALISTS = 600  # candidates whose exact metrics are counted and whose joint posterior is computed
THOMPSON_ABOVE = 0.05  # unexplained share of the variance from which all of a batch is chosen by Thompson sampling
RANDOM_ABOVE = 0.02  # from which one proposal in RANDOM_EVERY is random
RANDOM_EVERY = 10
POOR_ABOVE = 0.8  # and from which neighbours of the front join the batch, up to half of it at 1


class PredictorSearcher(HistorySearcher):
    """Proposes what fitted predictors expect to improve the front."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact) -> None:
        super().__init__(space, objectives, seed, exact)
        self._coder = Coder(space)
        self._signs = np.array([objective.sign for objective in self.objectives])
        self._limits = np.array([np.inf if o.limit is None else o.sign * o.limit for o in self.objectives])
        self._whole: Codes | None = None
        self._watch = Watch([o.metric for o in self.objectives if o.metric not in self.exact])

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield a start that covers all sizes, then what improves the front, then random architectures of all sizes."""
        if len(self.archs) < START:
            start = stratified_start(self.space, START, self.seed)
            yield from (arch for arch in start if not self.is_seen(arch))
        else:
            yield from self._improvements(count, rng)
        while True:
            yield from self._coder.decode(self._coder.canonical(self._coder.sample(rng.random(1), rng)))

    def tell(self, done: Sequence[Evaluation]) -> None:
        """Learn from evaluations, and compare them with what was predicted of them when they were proposed."""
        super().tell(done)
        self._watch.tell(done)

    def reports(self) -> list[PredictorReport]:
        """Return, for each predicted metric, how well the latest proposals were predicted before they were measured."""
        return self._watch.reports()

    def _improvements(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        measured = np.array(self.values) * self._signs
        rows = self._useful(measured, rng)
        seen = self._coder.encode([self.archs[i] for i in rows])
        features = self._coder.features(seen)
        models = [Surrogate(features, column) for column in measured[rows].T]

        def estimate(codes: Codes) -> FloatArray:
            seen_by_models = self._coder.features(codes)
            return np.stack([model.mean(seen_by_models) for model in models], axis=1)

        warped = np.stack([model.warp(column) for model, column in zip(models, measured[rows].T, strict=True)], axis=1)
        limits = np.array([model.warp.limit(limit) for model, limit in zip(models, self._limits, strict=True)])
        met = {row.tobytes() for row in self._coder.encode([*self.archs, *self.waiting.values()])}
        if self._size > ENUMERATED:
            codes, means = evolve(self._coder, seen, warped, met, estimate, limits, rng)
        else:
            if self._whole is None:
                self._whole = self._coder.encode(list(self.space.enumerate()))
            codes = self._whole[[row.tobytes() not in met for row in self._whole]]
            means = estimate(codes)
        codes = codes[chebyshev_survivors(means, violation(means, limits), FINALISTS, rng)[:FINALISTS]]
        archs = self._coder.decode(codes)
        counted, countable = self._count(archs)
        archs = [arch for arch, ok in zip(archs, countable, strict=True) if ok]
        if not archs:
            return
        counted = {j: values[countable] for j, values in counted.items()}
        finalists = Finalists(models, self._coder.features(codes[countable]), counted, self._limits)
        unexplained = max((m.unexplained for j, m in enumerate(models) if j not in counted), default=0.0)
        neighbours = round(0.5 * count * min(1.0, max(0.0, unexplained - POOR_ABOVE) / (1.0 - POOR_ABOVE)))
        done = len(self._seen)
        random = (done + count) // RANDOM_EVERY - done // RANDOM_EVERY if unexplained > RANDOM_ABOVE else 0
        modelled = max(0, count - random - neighbours)
        thompson = round(modelled * min(1.0, unexplained / THOMPSON_ABOVE))
        chosen = finalists.improving(measured, modelled - thompson, rng)
        chosen = finalists.sampled(chosen, 2 * count, rng)
        self._watch.propose(archs, self.objectives, finalists, chosen, len(rows))
        if random:
            drawn = [self.space.sample(rng) for _ in range(4 * random)]
            yield from [arch for arch, ok in zip(drawn, self._count(drawn)[1], strict=True) if ok][:random]
        yield from (archs[i] for i in chosen[:modelled])
        kept = np.flatnonzero((measured <= self._limits).all(axis=1))
        front = kept[pareto_mask(measured[kept])] if len(kept) else np.arange(len(measured))
        for parent in rng.choice(front, size=neighbours):
            yield self.space.mutate(self.archs[parent], rng)
        yield from (archs[i] for i in chosen[modelled:])

    def _count(self, archs: Sequence[ArchConfig]) -> tuple[dict[int, FloatArray], BoolArray]:
        """Return counted objectives by index, minimised, each of shape (n,), and of which architectures all are finite."""
        counted = {j: o.sign * self.exact[o.metric](archs) for j, o in enumerate(self.objectives) if o.metric in self.exact}
        return counted, np.asarray(np.isfinite(np.stack([*counted.values(), np.zeros(len(archs))])).all(axis=0))

    def _useful(self, measured: FloatArray, rng: np.random.Generator) -> list[int]:
        """Return at most ROWS rows in order: those that are good under some preference, then any others."""
        if len(measured) <= ROWS:
            return list(range(len(measured)))
        best = chebyshev_survivors(measured, violation(measured, self._limits), 2 * ROWS, rng).tolist()
        others = set(range(len(measured))) - set(best)
        return sorted([*best, *rng.permutation(sorted(others)).tolist()][:ROWS])
