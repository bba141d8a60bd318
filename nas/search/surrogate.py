"""A Gaussian process on one-hots that predicts the mean of more than a hundred thousand candidates a second.

Its kernel and hyperparameters are those of `predictors.kernel`; the leave-one-out density, in the units of the values, also
chooses the warp (Snelson et al., Warped Gaussian Processes, 2004). `predictors` holds the models that are stored and shown;
this one is fitted anew for every batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core import FloatArray
from nas.search.warp import SHARES, Warp
from predictors.kernel import LENGTHS, RBF_SHARES, LeftOut, covariance, leave_one_out, products, relevances

LENGTH, RBF_SHARE = 1.4, 0.3  # until they are chosen
CHOICE_ROWS = 250  # rows that hyperparameters are chosen on

Single = NDArray[np.float32]


class Surrogate:
    """What one objective is expected to be, in the units of its warp, where it is nearly normal.

    Args:
        features: One-hot rows, shape (n, d), n >= 2.
        values: Finite, shape (n,), minimised.

    Attributes:
        warp: From values to the units of everything that is predicted.
        unexplained: Share of the variance that predictions of each row from the others leave unexplained.
    """

    def __init__(self, features: FloatArray, values: FloatArray) -> None:
        self._centre = features.mean(axis=0)
        scale = features.std(axis=0)
        scale = np.where(scale > 0, scale, np.inf)  # what never varied says nothing
        rows = (features - self._centre) / scale
        some = np.unique(np.linspace(0, len(values) - 1, min(len(values), CHOICE_ROWS)).astype(int))
        half = Warp.of(values, 0.5)(values[some])
        relevance = relevances(rows[some], half - half.mean())
        linear, distances = products(rows[some] * relevance, rows[some] * relevance)

        def loss(warp: Warp) -> float:
            targets = warp(values[some])
            kernel = covariance(linear, distances, LENGTH, RBF_SHARE)
            density = -leave_one_out(kernel, targets - targets.mean()).loss
            return -density - float(np.log(warp.slope(values[some])).sum())

        self.warp = min((Warp.of(values, share) for share in SHARES), key=loss)
        targets = self.warp(values)
        self._mean = float(targets.mean())
        self._choose(linear, distances, targets[some] - self._mean)
        self._relevance: FloatArray = relevance / scale
        self._condition(rows * relevance, targets - self._mean)

    def _choose(self, linear: FloatArray, distances: FloatArray, targets: FloatArray) -> None:
        """Choose the share of the squared exponential, then its length."""

        def left_out(length: float, share: float) -> LeftOut:
            return leave_one_out(covariance(linear, distances, length, share), targets)

        tried = {(LENGTH, share): left_out(LENGTH, share) for share in RBF_SHARES}
        _, share = min(tried, key=lambda point: tried[point].loss)
        if share > 0:
            tried |= {(length, share): left_out(length, share) for length in LENGTHS if length != LENGTH}
        self._length, self._share = min(tried, key=lambda point: tried[point].loss)
        chosen = tried[self._length, self._share]
        self._noise, self._signal = chosen.noise, chosen.signal
        errors = np.square(chosen.predicted - targets).mean()
        self.unexplained = float(errors / np.square(targets - targets.mean()).mean()) if np.ptp(targets) > 0 else 0.0

    def _condition(self, rows: FloatArray, targets: FloatArray) -> None:
        from scipy.linalg import cho_solve, cholesky, solve_triangular

        kernel = covariance(*products(rows, rows), self._length, self._share)
        kernel[np.diag_indices_from(kernel)] += self._noise
        lower = cholesky(kernel, lower=True, check_finite=False)
        weights = cho_solve((lower, True), targets, check_finite=False)
        self._offset = self._mean + float(weights.sum())
        self._linear: Single = ((1.0 - self._share) * (rows.T @ weights)).astype(np.float32)
        self._weights: Single = (self._share * weights).astype(np.float32)
        self._rows: Single = rows.astype(np.float32)
        self._squares: Single = np.square(self._rows).sum(axis=1)
        # An explicit inverse of the triangle turns the covariance of many rows into one matrix product.
        self._whiten = solve_triangular(lower, np.eye(len(targets)), lower=True, check_finite=False)

    def mean(self, features: FloatArray) -> FloatArray:
        """Return what is expected, shape (k,), of one-hot rows (k, d); in single precision, for many rows."""
        rows = ((features - self._centre) * self._relevance).astype(np.float32)
        mean: Single = rows @ self._linear
        if self._share:
            inner = rows @ self._rows.T
            inner *= 2.0
            inner -= self._squares
            inner -= np.square(rows).sum(axis=1)[:, None]
            inner *= np.float32(0.25 / self._length**2)
            mean += np.exp(inner, out=inner) @ self._weights
        expected: FloatArray = mean.astype(np.float64) + self._offset
        return expected

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the joint posterior of measuring one-hot rows (k, d), the noise of a measurement included.

        Returns:
            The mean, shape (k,), and a lower triangular root of the covariance, shape (k, k).
        """
        from scipy.linalg import cholesky

        rows = (features - self._centre) * self._relevance
        known = self._rows.astype(np.float64)
        cross = covariance(*products(rows, known), self._length, self._share) @ self._whiten.T
        spread = covariance(*products(rows, rows), self._length, self._share) - cross @ cross.T
        spread[np.diag_indices_from(spread)] += self._noise
        root: FloatArray = cholesky(self._signal * spread, lower=True, check_finite=False)
        return self.mean(features), root
