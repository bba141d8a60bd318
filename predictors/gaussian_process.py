"""Gaussian process with a linear and a squared-exponential kernel; hyperparameters by marginal likelihood.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: equations 2.25, 2.26 and 2.30.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core import FloatArray
from predictors.scaling import Scaling, checked

LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the squared exponential, in units of the features' root mean square distance
RBF_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0)  # the rest of the signal's variance is linear
NOISES = np.geomspace(1e-5, 3.0, 24)  # variance of the noise over that of the signal
FIT_ROWS = 400  # rows that the hyperparameters are chosen on
CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the marginal likelihood chose.

    Attributes:
        length: Length scale of the squared exponential, in scaled features.
        rbf_share: Share of the squared exponential in the signal's variance.
        noise: Variance of the noise over that of the signal.
    """

    length: float
    rbf_share: float
    noise: float


class GaussianProcess:
    """Predicts with an uncertainty that grows away from what was seen. The standard deviation includes the noise.

    Made for tens to a thousand rows of one-hots and numbers; both features and targets are standardised.
    """

    def __init__(self) -> None:
        self._features: FloatArray = np.empty((0, 0))
        self._targets: FloatArray = np.empty(0)
        self._chosen: Hyperparameters | None = None

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and finite targets of shape (n,), n >= 2."""
        features, targets = checked(features, targets)
        scaled, centred = Scaling.of(features).apply(features), _standardised(targets)
        rows = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), FIT_ROWS)).astype(int))
        self._condition(features, targets, _choose(scaled[rows], centred[rows]))

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each of shape (n,), for features of shape (n, d)."""
        if self._chosen is None:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        mean = np.empty(len(features))
        variance = np.empty(len(features))
        for start in range(0, len(features), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            mean[part], variance[part] = self._predict(np.asarray(features[part], dtype=np.float64))
        return mean * self._target_std + self._target_mean, np.sqrt(variance) * self._target_std

    def state(self) -> dict[str, Any]:
        """Return the training rows and the hyperparameters; the rest follows from them."""
        if self._chosen is None:
            raise RuntimeError("a predictor has a state after it was fitted; call fit first")
        return {
            "features": self._features.tolist(),
            "targets": self._targets.tolist(),
            "length": self._chosen.length,
            "rbf_share": self._chosen.rbf_share,
            "noise": self._chosen.noise,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianProcess:
        """Return the predictor whose state this is."""
        restored = cls()
        chosen = Hyperparameters(float(state["length"]), float(state["rbf_share"]), float(state["noise"]))
        restored._condition(np.array(state["features"], dtype=np.float64), np.array(state["targets"], dtype=np.float64), chosen)
        return restored

    def _condition(self, features: FloatArray, targets: FloatArray, chosen: Hyperparameters) -> None:
        from scipy.linalg import cho_factor, cho_solve, solve_triangular

        self._features, self._targets, self._chosen = features, targets, chosen
        self._scaling = Scaling.of(features)
        self._rows = self._scaling.apply(features)
        self._target_mean = float(targets.mean())
        self._target_std = float(targets.std()) or 1.0
        kernel = _kernel(self._rows, self._rows, chosen)
        kernel[np.diag_indices_from(kernel)] += chosen.noise
        centred = (targets - self._target_mean) / self._target_std
        lower = cho_factor(kernel, lower=True)
        self._weights: FloatArray = cho_solve(lower, centred)
        # An explicit inverse of the triangle turns the variance of many rows into one matrix product.
        self._whiten: FloatArray = solve_triangular(lower[0], np.eye(len(targets)), lower=True)
        self._signal = float(centred @ self._weights) / len(targets)

    def _predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        assert self._chosen is not None
        rows = self._scaling.apply(features)
        cross = _kernel(rows, self._rows, self._chosen)
        prior = (1 - self._chosen.rbf_share) * np.einsum("ij,ij->i", rows, rows) / rows.shape[1] + self._chosen.rbf_share
        explained = np.square(cross @ self._whiten.T).sum(axis=1)
        variance = self._signal * (np.maximum(prior - explained, 0.0) + self._chosen.noise)
        return cross @ self._weights, variance


def _standardised(targets: FloatArray) -> FloatArray:
    centred: FloatArray = targets - targets.mean()
    return centred / (float(targets.std()) or 1.0)


def _squared_distances(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return shape (n, m): the mean over the features of the squared differences."""
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
    distances: FloatArray = np.maximum(squares, 0.0) / left.shape[1]
    return distances


def _kernel(left: FloatArray, right: FloatArray, chosen: Hyperparameters) -> FloatArray:
    kernel: FloatArray = (1 - chosen.rbf_share) / left.shape[1] * (left @ right.T)
    if chosen.rbf_share:
        kernel += chosen.rbf_share * np.exp(_squared_distances(left, right) / (-2.0 * chosen.length**2))
    return kernel


def _choose(rows: FloatArray, targets: FloatArray) -> Hyperparameters:
    """Return the hyperparameters of the grid with the greatest marginal likelihood; the signal's variance is solved for."""
    from scipy.linalg import eigh

    count = len(targets)
    linear = rows @ rows.T / rows.shape[1]
    distances = _squared_distances(rows, rows)
    unit = float(np.sqrt(distances.sum() / max(count * (count - 1), 1))) or 1.0
    best = (np.inf, Hyperparameters(unit, 0.0, 1.0))
    for factor in LENGTHS:
        squared_exponential = np.exp(distances / (-2.0 * (factor * unit) ** 2))
        for share in RBF_SHARES:
            if share == 0.0 and factor != LENGTHS[0]:
                continue  # the length does not matter
            values, vectors = eigh((1 - share) * linear + share * squared_exponential)
            projected = np.square(vectors.T @ targets)
            spectrum = np.maximum(values, 0.0)[:, None] + NOISES[None, :]
            signal = np.maximum((projected[:, None] / spectrum).sum(axis=0) / count, 1e-300)
            loss = 0.5 * (count * np.log(signal) + np.log(spectrum).sum(axis=0))
            at = int(loss.argmin())
            if loss[at] < best[0]:
                best = (float(loss[at]), Hyperparameters(factor * unit, share, float(NOISES[at])))
    return best[1]
