"""Gaussian process with a linear and a squared-exponential kernel whose features are weighted by their relevance.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: prediction by equations 2.25 and 2.26,
hyperparameters by the leave-one-out predictive density, 5.10 to 5.12 (the marginal likelihood, tried on recorded searches,
chose too little noise where there were fewer rows than features). Relevances by MacKay's automatic relevance determination
for the linear kernel, two damped rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core import FloatArray
from predictors.scaling import Scaling, checked

LENGTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # of the squared exponential; scaled rows are sqrt(2) apart on average
RBF_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0)  # the rest of the signal's variance is linear
NOISES = np.geomspace(1e-4, 10.0, 25)  # variance of the noise over that of the signal
ROUNDS = 2  # of relevance determination
CHOICE_ROWS = 300  # rows that the length, the share and the noise are chosen on
CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the leave-one-out predictive density chose.

    Attributes:
        length: Length scale of the squared exponential.
        rbf_share: Share of the squared exponential in the signal's variance.
        noise: Variance of the noise over that of the signal.
        signal: Variance of the signal, for standardised targets.
    """

    length: float
    rbf_share: float
    noise: float
    signal: float


class GaussianProcess:
    """Predicts with an uncertainty that grows away from what was seen. The standard deviation includes the noise.

    Made for tens to a thousand rows of one-hots and numbers; both features and targets are standardised.
    """

    def __init__(self) -> None:
        self._chosen: Hyperparameters | None = None

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and finite targets of shape (n,), n >= 2."""
        features, targets = checked(features, targets)
        scaled = Scaling.of(features).apply(features)
        centred = (targets - targets.mean()) / (float(targets.std()) or 1.0)
        some = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), CHOICE_ROWS)).astype(int))
        relevance = _relevance(scaled[some], centred[some])
        chosen = _choose(scaled[some] * relevance, centred[some])
        self._condition(features, targets, relevance, chosen)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each of shape (n,), for features of shape (n, d)."""
        if self._chosen is None:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        mean, variance = np.empty(len(features)), np.empty(len(features))
        for start in range(0, len(features), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            mean[part], variance[part] = self._predict(np.asarray(features[part], dtype=np.float64), self._chosen)
        return mean * self._target_std + self._target_mean, np.sqrt(variance) * self._target_std

    def state(self) -> dict[str, Any]:
        """Return the training rows and what was chosen; the rest follows from them."""
        if self._chosen is None:
            raise RuntimeError("a predictor has a state after it was fitted; call fit first")
        return {
            "features": self._features.tolist(),
            "targets": self._targets.tolist(),
            "relevance": self._relevance.tolist(),
            "length": self._chosen.length,
            "rbf_share": self._chosen.rbf_share,
            "noise": self._chosen.noise,
            "signal": self._chosen.signal,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianProcess:
        """Return the predictor whose state this is."""
        restored = cls()
        features, targets, relevance = (np.array(state[name], dtype=float) for name in ("features", "targets", "relevance"))
        chosen = Hyperparameters(*(float(state[name]) for name in ("length", "rbf_share", "noise", "signal")))
        restored._condition(features, targets, relevance, chosen)
        return restored

    def _condition(self, features: FloatArray, targets: FloatArray, relevance: FloatArray, chosen: Hyperparameters) -> None:
        from scipy.linalg import cho_solve, cholesky, solve_triangular

        self._features, self._targets, self._relevance, self._chosen = features, targets, relevance, chosen
        self._scaling = Scaling.of(features)
        self._rows: FloatArray = self._scaling.apply(features) * relevance
        self._target_mean, self._target_std = float(targets.mean()), float(targets.std()) or 1.0
        kernel = _kernel(self._rows, self._rows, chosen)
        kernel[np.diag_indices_from(kernel)] += chosen.noise
        lower = cholesky(kernel, lower=True)
        self._weights: FloatArray = cho_solve((lower, True), (targets - self._target_mean) / self._target_std)
        # An explicit inverse of the triangle turns the variance of many rows into one matrix product.
        self._whiten: FloatArray = solve_triangular(lower, np.eye(len(targets)), lower=True)

    def _predict(self, features: FloatArray, chosen: Hyperparameters) -> tuple[FloatArray, FloatArray]:
        rows = self._scaling.apply(features) * self._relevance
        cross = _kernel(rows, self._rows, chosen)
        prior = 1.0 + chosen.rbf_share + (1.0 - chosen.rbf_share) * np.square(rows).sum(axis=1)
        explained = np.square(cross @ self._whiten.T).sum(axis=1)
        return cross @ self._weights, chosen.signal * (np.maximum(prior - explained, 0.0) + chosen.noise)


def _squared_distances(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the squared distances between rows (n, d) and (m, d), shape (n, m)."""
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
    distances: FloatArray = np.maximum(squares, 0.0)
    return distances


def _kernel(left: FloatArray, right: FloatArray, chosen: Hyperparameters) -> FloatArray:
    """Return the covariances over the signal's variance, shape (n, m): a constant, a linear and an exponential part."""
    kernel: FloatArray = 1.0 + (1.0 - chosen.rbf_share) * (left @ right.T)
    if chosen.rbf_share:
        kernel += chosen.rbf_share * np.exp(_squared_distances(left, right) / (-4.0 * chosen.length**2))
    return kernel


@dataclass(frozen=True, slots=True)
class _NoiseChoice:
    """The noise with the best leave-one-out predictive density for one kernel.

    Attributes:
        loss: Minus the logarithm of the density, up to a constant.
        weights: Of the training rows, shape (n,).
    """

    loss: float
    noise: float
    signal: float
    weights: FloatArray


def _choose_noise(kernel: FloatArray, targets: FloatArray) -> _NoiseChoice:
    from scipy.linalg import eigh

    values, vectors = eigh(kernel)
    spectrum = np.maximum(values, 0.0)[:, None] + NOISES  # (n, noises)
    weights = vectors @ ((vectors.T @ targets)[:, None] / spectrum)
    precision = np.square(vectors) @ (1.0 / spectrum)  # the diagonal of the inverse
    signal = np.maximum((np.square(weights) / precision).mean(axis=0), 1e-300)  # residuals have variance signal / precision
    losses = 0.5 * (len(targets) * np.log(signal) - np.log(precision).sum(axis=0))
    best = int(losses.argmin())
    return _NoiseChoice(float(losses[best]), float(NOISES[best]), float(signal[best]), weights[:, best])


def _relevance(rows: FloatArray, targets: FloatArray) -> FloatArray:
    """Return a weight per feature, shape (d,), such that weighted rows have a mean square length of 1.

    A feature's prior variance moves half way (in the logarithm) to the second moment of its weight in a linear model.
    """
    relevance = np.ones(rows.shape[1])
    for done in range(ROUNDS + 1):
        relevance = relevance / (np.sqrt(np.square(rows * relevance).sum(axis=1).mean()) or 1.0)
        if done == ROUNDS:
            break
        weighted = rows * relevance
        kernel = weighted @ weighted.T + 1.0
        choice = _choose_noise(kernel, targets)
        kernel[np.diag_indices_from(kernel)] += choice.noise
        explained = np.einsum("ij,ij->j", weighted, np.linalg.solve(kernel, weighted))
        moment = np.square(weighted.T @ choice.weights) + choice.signal * np.clip(1.0 - explained, 0.0, 1.0)
        relevance = relevance * (np.maximum(moment, 1e-300) / max(float(moment.mean()), 1e-300)) ** 0.25
    return relevance


def _choose(rows: FloatArray, targets: FloatArray) -> Hyperparameters:
    """Return the point of the grid with the best leave-one-out predictive density."""
    linear = rows @ rows.T
    distances = _squared_distances(rows, rows)
    best: tuple[float, Hyperparameters] | None = None
    for length in LENGTHS:
        exponential = np.exp(distances / (-4.0 * length**2))
        for share in RBF_SHARES:
            if share == 0.0 and length != LENGTHS[0]:
                continue  # the length does not matter
            choice = _choose_noise(1.0 + (1.0 - share) * linear + share * exponential, targets)
            if best is None or choice.loss < best[0]:
                best = (choice.loss, Hyperparameters(length, share, choice.noise, choice.signal))
    assert best is not None
    return best[1]
