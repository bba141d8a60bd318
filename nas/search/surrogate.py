"""A Gaussian process on one-hots that predicts the mean of more than a hundred thousand candidates a second.

The kernel is a constant, a linear part whose features are weighted by their relevance, and a squared exponential, which on
one-hots is a product over the choices: an interaction of every order. Hyperparameters by the leave-one-out predictive density
(Rasmussen and Williams, 2006, 5.10 to 5.12), which in the units of the values also chooses the warp (Snelson et al., 2004).
`predictors` holds the models that are stored and shown; this one is fitted anew for every batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import FloatArray
from nas.search.warp import SHARES, Warp

LENGTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # of the squared exponential; weighted rows are sqrt(2) apart on average
LENGTH = 1.4  # until one is chosen
RBF_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0)  # the rest of the signal's variance is linear
RBF_SHARE = 0.3  # until one is chosen
NOISES = np.geomspace(1e-4, 10.0, 25)  # variance of the noise over that of the signal
ROUNDS = 2  # of relevance determination (MacKay, 1994), damped
CHOICE_ROWS = 250  # rows that hyperparameters are chosen on

Single = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """The noise with the best leave-one-out predictive density under one kernel.

    Attributes:
        loss: Minus the logarithm of the density, up to a constant.
        weights: Of the rows, shape (n,).
        predicted: Each row's target, from the other rows, shape (n,).
    """

    loss: float
    noise: float
    signal: float
    weights: FloatArray
    predicted: FloatArray


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
        relevance = _relevance(rows[some], half - half.mean())
        linear, distances = _products(rows[some] * relevance)

        def loss(warp: Warp) -> float:
            targets = warp(values[some])
            kernel = _kernel(linear, distances, LENGTH, RBF_SHARE)
            density = -_leave_one_out(kernel, targets - targets.mean()).loss
            return -density - float(np.log(warp.slope(values[some])).sum())

        self.warp = min((Warp.of(values, share) for share in SHARES), key=loss)
        targets = self.warp(values)
        self._mean = float(targets.mean())
        self._choose(linear, distances, targets[some] - self._mean)
        self._relevance: FloatArray = relevance / scale
        self._condition(rows * relevance, targets - self._mean)

    def _choose(self, linear: FloatArray, distances: FloatArray, targets: FloatArray) -> None:
        """Choose the share of the squared exponential, then its length."""

        def left_out(length: float, share: float) -> _LeftOut:
            return _leave_one_out(_kernel(linear, distances, length, share), targets)

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

        kernel = _kernel(*_products(rows), self._length, self._share)
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
        inner = rows @ known.T
        distances = np.square(rows).sum(axis=1)[:, None] + self._squares - 2.0 * inner
        cross = _kernel(inner, distances, self._length, self._share) @ self._whiten.T
        covariance = _kernel(*_products(rows), self._length, self._share) - cross @ cross.T
        covariance[np.diag_indices_from(covariance)] += self._noise
        root: FloatArray = cholesky(self._signal * covariance, lower=True, check_finite=False)
        return self.mean(features), root


def _leave_one_out(kernel: FloatArray, targets: FloatArray) -> _LeftOut:
    from scipy.linalg import eigh

    values, vectors = eigh(kernel, check_finite=False)
    spectrum = np.maximum(values, 0.0)[:, None] + NOISES  # (n, noises)
    weights = vectors @ ((vectors.T @ targets)[:, None] / spectrum)
    precision = np.square(vectors) @ (1.0 / spectrum)  # the diagonal of the inverse
    signal = np.maximum((np.square(weights) / precision).mean(axis=0), 1e-300)
    losses = 0.5 * (len(targets) * np.log(signal) - np.log(precision).sum(axis=0))
    best = int(losses.argmin())
    predicted = targets - weights[:, best] / precision[:, best]
    return _LeftOut(float(losses[best]), float(NOISES[best]), float(signal[best]), weights[:, best], predicted)


def _relevance(rows: FloatArray, targets: FloatArray) -> FloatArray:
    """Return a weight per feature, shape (d,), such that weighted rows have a mean square length of 1."""
    relevance = np.ones(rows.shape[1])
    for done in range(ROUNDS + 1):
        relevance = relevance / (np.sqrt(np.square(rows * relevance).sum(axis=1).mean()) or 1.0)
        if done == ROUNDS:
            break
        weighted = rows * relevance
        kernel = weighted @ weighted.T + 1.0
        left_out = _leave_one_out(kernel, targets)
        kernel[np.diag_indices_from(kernel)] += left_out.noise
        explained = np.einsum("ij,ij->j", weighted, np.linalg.solve(kernel, weighted))
        moment = np.square(weighted.T @ left_out.weights) + left_out.signal * np.clip(1.0 - explained, 0.0, 1.0)
        relevance = relevance * (np.maximum(moment, 1e-300) / max(float(moment.mean()), 1e-300)) ** 0.25
    return relevance


def _products(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return inner products and squared distances of rows (n, d), each of shape (n, n)."""
    inner = rows @ rows.T
    squares = np.diag(inner)
    return inner, squares[:, None] + squares[None, :] - 2.0 * inner


def _kernel(inner: FloatArray, distances: FloatArray, length: float, share: float) -> FloatArray:
    """Return covariances over the signal's variance: a constant, a linear and an exponential part."""
    kernel: FloatArray = 1.0 + (1.0 - share) * inner
    if share:
        kernel += share * np.exp(np.maximum(distances, 0.0) / (-4.0 * length**2))
    return kernel
