"""LINAS (Cummings et al., 2022), the published loop, for comparison.

Populations of 50 are measured in turn. Between two of them, each objective gets the better of a ridge and a support vector
regression by cross-validation, and the final population of NSGA-II (Deb et al., 2002) on the predictions is the next. As in the
publication every objective is predicted, also those that could be counted; their exact values serve as training data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import ArchConfig, Codes, FloatArray, Objective, SearchSpace
from nas.search.codes import Coder
from nas.search.history import Exact, HistorySearcher

POPULATION = 50
PREDICTED = 20_000  # evaluations on the predictors between two populations
PENALTIES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the ridge: the published range in fewer steps
COSTS = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the support vector regression, likewise
FOLDS = 5
CROSS, CROSS_INDEX = 0.9, 15.0  # chance and distribution index of simulated binary crossover
MUTATE, MUTATE_INDEX = 0.02, 20.0  # and of polynomial mutation, for each choice

Regression = Callable[[FloatArray], FloatArray]


class LINASSearcher(HistorySearcher):
    """Measures what NSGA-II finds on predictors that are fitted once per population."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact) -> None:
        super().__init__(space, objectives, seed, exact)
        self._coder = Coder(space)
        self._made: tuple[int, list[ArchConfig]] = (-1, [])

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield the rest of the population, then neighbours of it where evaluations failed."""
        round_ = len(self.archs) // POPULATION
        if self._made[0] != round_:
            self._made = round_, self._population(round_, np.random.default_rng([self.seed, round_]))
        population = self._made[1]
        yield from (arch for arch in population if not self.is_seen(arch))
        while True:
            yield self.space.mutate(population[rng.integers(len(population))], rng)

    def _population(self, round_: int, rng: np.random.Generator) -> list[ArchConfig]:
        """Return what is measured next, from the first `round_` times 50 evaluations."""
        coder = self._coder
        start = coder.canonical(rng.integers(coder.sizes, size=(POPULATION, len(coder.sizes))).astype(np.int16))
        if round_ == 0:
            return coder.decode(start)
        told = slice(0, round_ * POPULATION)
        measured = coder.encode(self.archs[told])
        features = coder.one_hot(measured)
        values = np.array(self.values[told]) * [o.sign for o in self.objectives]
        models = [fit(features, column) for column in values.T]

        def predict(codes: Codes) -> FloatArray:
            rows = coder.one_hot(codes)
            return np.stack([model(rows) for model in models], axis=1)

        return coder.decode(evolve(coder, start, measured, predict, rng))


def fit(features: FloatArray, values: FloatArray) -> Regression:
    """Return the regression with the least mean absolute relative error in cross-validation, for features (n, d)."""
    from sklearn.linear_model import Ridge
    from sklearn.svm import SVR

    unit = 10.0 ** (np.floor(np.log10(np.abs(values).max() or 1.0)) - 1.0)
    targets = values / unit
    fold = np.arange(len(targets)) * FOLDS // len(targets)

    def error(model: Any) -> float:
        missed = np.empty(len(targets))
        for held in range(FOLDS):
            out = fold == held
            missed[out] = model.fit(features[~out], targets[~out]).predict(features[out]) - targets[out]
        return float((np.abs(missed) / np.maximum(np.abs(targets), 1e-12)).mean())

    models = [*(Ridge(alpha=a) for a in PENALTIES), *(SVR(C=c, gamma="auto", epsilon=0.0) for c in COSTS)]
    best = min(models, key=error).fit(features, targets)
    return lambda rows: np.asarray(best.predict(rows)) * unit


def evolve(
    coder: Coder, start: Codes, measured: Codes, predict: Callable[[Codes], FloatArray], rng: np.random.Generator
) -> Codes:
    """Return the final population of NSGA-II with integer rounding; nothing measured and no duplicate survives.

    Args:
        coder: Of the space.
        start: First population, shape (n, choices).
        measured: What has been measured, shape (k, choices).
        predict: Codes (n, choices) to values (n, m), minimised.
        rng: Of the variation and the tournaments.
    """
    barred = {row.tobytes() for row in measured}
    population = _distinct(start, barred)
    values = predict(population) if len(population) else np.empty((0, 1))
    for _ in range(PREDICTED // POPULATION - 1):
        if len(population) < 2:
            break
        rank, crowding = _rank(values)
        pairs = rng.integers(len(population), size=(2, POPULATION, 2))  # two parents, each the winner of a tournament
        order = np.lexsort((-crowding, rank))
        place = np.empty(len(population), dtype=int)
        place[order] = np.arange(len(population))
        winners = np.take_along_axis(pairs, place[pairs].argmin(axis=2)[:, :, None], axis=2)[:, :, 0]
        left, right = coder.fill(population[winners[0]], rng), coder.fill(population[winners[1]], rng)
        children = coder.canonical(_polynomial(_crossed(left, right, rng), coder.sizes, rng))
        children = _distinct(children, barred | {row.tobytes() for row in population})
        if len(children) == 0:
            continue
        population, values = np.concatenate([population, children]), np.concatenate([values, predict(children)])
        rank, crowding = _rank(values)
        keep = np.lexsort((-crowding, rank))[:POPULATION]
        population, values = population[keep], values[keep]
    return population if len(population) else start


def _distinct(codes: Codes, barred: set[bytes]) -> Codes:
    codes = np.unique(codes, axis=0)
    return codes[[row.tobytes() not in barred for row in codes]]


def _rank(values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return each row's front, counted from 0, and its crowding distance there, for values (n, m)."""
    dominates = np.asarray((values[:, None] <= values[None]).all(axis=2) & (values[:, None] < values[None]).any(axis=2))
    rank, crowding = np.full(len(values), -1), np.zeros(len(values))
    left, number = np.ones(len(values), dtype=bool), 0
    while left.any():
        front = np.flatnonzero(left & ~dominates[left].any(axis=0))
        rank[front], left[front] = number, False
        number += 1
        for column in values[front].T:
            order = np.argsort(column)
            span = (column[order[-1]] - column[order[0]]) or 1.0
            crowding[front[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / span
            crowding[front[order[[0, -1]]]] = np.inf
    return rank, crowding


def _crossed(left: Codes, right: Codes, rng: np.random.Generator) -> FloatArray:
    """Return one child of each pair by simulated binary crossover, not rounded yet."""
    chance = rng.random(left.shape)
    spread = np.where(chance < 0.5, 2.0 * chance, 0.5 / (1.0 - chance)) ** (1.0 / (CROSS_INDEX + 1.0))
    sign = rng.choice((-1.0, 1.0), size=left.shape)  # which parent a gene is near
    child = 0.5 * (left + right) + 0.5 * sign * spread * (left - right.astype(float))
    return np.where(rng.random((len(left), 1)) < CROSS, child, left)


def _polynomial(genes: FloatArray, sizes: NDArray[np.int64], rng: np.random.Generator) -> Codes:
    """Return codes after polynomial mutation and rounding."""
    chance = rng.random(genes.shape)
    power = 1.0 / (MUTATE_INDEX + 1.0)
    step = np.where(chance < 0.5, (2.0 * chance) ** power - 1.0, 1.0 - (2.0 * (1.0 - chance)) ** power)
    genes = np.where(rng.random(genes.shape) < MUTATE, genes + step * (sizes - 1), genes)
    return np.clip(np.rint(genes), 0, sizes - 1).astype(np.int16)
