"""The last few hundred candidates of a batch: their joint posterior, and two ways to choose among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.core import FloatArray, pareto_mask
from nas.search.candidates import violation
from nas.search.improvement import expected_improvement, open_points, weighted_chebyshev
from nas.search.surrogate import Surrogate

OPTIMISM = 0.5  # by which deviations from the mean are scaled: whole ones, tried, explore too much
POINTS = 4000  # of the Monte-Carlo volume
MARGIN = 0.1  # of the front's range between its worst and the reference point


class Finalists:
    """Candidates with a distribution for each objective; everything is minimised.

    Args:
        models: One for each objective.
        features: What they see of the candidates, shape (n, d).
        counted: Objective to exact values, shape (n,), which replace the model's.
        limits: Shape (m,), infinite where there are none.
    """

    def __init__(
        self, models: Sequence[Surrogate], features: FloatArray, counted: Mapping[int, FloatArray], limits: FloatArray
    ) -> None:
        self.models, self._counted, self._limits = models, counted, limits
        shape = len(features), len(models)
        self.mean, self.std = np.empty(shape), np.zeros(shape)  # in the units of the warps
        self._roots: dict[int, FloatArray] = {}
        for j, model in enumerate(models):
            if j in counted:
                self.mean[:, j] = model.warp(counted[j])
            else:
                self.mean[:, j], root = model.posterior(features)
                self.std[:, j] = np.sqrt(np.square(root).sum(axis=1))
                self._roots[j] = root

    def improving(self, measured: FloatArray, count: int, rng: np.random.Generator) -> list[int]:
        """Return at most `count` candidates, each with the largest expected improvement of the hypervolume beside the others.

        Args:
            measured: Values of all that was measured, shape (k, m), not warped.
            count: How many.
            rng: Draws the points of the volume.
        """
        from scipy.special import ndtr

        feasible = measured[(measured <= self._limits).all(axis=1)]
        front = feasible[pareto_mask(feasible)]
        scope = front if len(front) else measured
        span = np.ptp(scope, axis=0)
        reference = np.minimum(scope.max(axis=0) + MARGIN * np.where(span > 0, span, 1.0), self._limits)
        optimistic = self.mean - 4.0 * OPTIMISM * self.std
        low = np.array(
            [
                self._counted[j].min() if j in self._counted else model.warp.inverse(optimistic[:, j]).min()
                for j, model in enumerate(self.models)
            ]
        )
        points = open_points(front, np.minimum(low, reference), reference, POINTS, rng)
        better = np.ones((len(self.mean), len(points)), dtype=np.float32)
        for j, model in enumerate(self.models):
            if j in self._counted:
                better *= self._counted[j][:, None] <= points[:, j]
            else:
                deviations = (model.warp(points[:, j]) - self.mean[:, j, None]) / np.maximum(
                    OPTIMISM * self.std[:, j, None], 1e-9
                )
                better *= ndtr(np.clip(deviations, -9.0, 9.0).astype(np.float32))
        return expected_improvement(better, count)

    def sampled(self, chosen: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
        """Return `chosen` and others, `count` in all where there are so many: each the best of a draw under a preference.

        A draw is one from the joint posterior, scaled to its own range; a preference is uniform on the simplex.
        """
        taken = list(chosen)
        limits = np.array([model.warp.limit(limit) for model, limit in zip(self.models, self._limits, strict=True)])
        while len(taken) < min(count, len(self.mean)):
            draw = self.mean.copy()
            for j, root in self._roots.items():
                draw[:, j] += OPTIMISM * (root @ rng.standard_normal(len(draw)))
            low, high = draw.min(axis=0), draw.max(axis=0)
            scaled = (draw - low) / np.where(high > low, high - low, 1.0)
            scores = weighted_chebyshev(scaled.T, rng.dirichlet(np.ones(draw.shape[1]))) + 1e3 * violation(draw, limits)
            scores[taken] = np.inf
            taken.append(int(scores.argmin()))
        return taken
