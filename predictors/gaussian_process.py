"""Gaussian process with a linear and a squared-exponential kernel, relevances of features and warped targets.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: prediction by equations 2.25 and 2.26; kernel and
hyperparameters as `predictors.kernel` says (the marginal likelihood, tried on recorded searches, chose too little noise where
there were fewer rows than features). Since relevances are fitted to the very rows that the density is taken on, the variance
is scaled by the residuals of rows that had no part in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas.core import FloatArray
from predictors.kernel import LENGTHS, RBF_SHARES, covariance, leave_one_out, products, relevances
from predictors.scaling import Scaling, checked
from predictors.warping import Warp, spread_of

STRENGTHS = (0.0, 0.5, 1.0)  # of the warp of the targets
FOLDS = 5  # of the rows that scale the variance
CHOICE_ROWS = 300  # rows that the length, the share and the noise are chosen on
CHUNK_ROWS = 4096
NORMAL_95 = 1.6448536269514722  # a normal variable is below it with a chance of 95 %


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the leave-one-out predictive density chose.

    Attributes:
        length: Length scale of the squared exponential.
        rbf_share: Share of the squared exponential in the signal's variance.
        noise: Variance of the noise over that of the signal.
        signal: Variance of the signal, for warped and standardised targets.
    """

    length: float
    rbf_share: float
    noise: float
    signal: float


class GaussianProcess:
    """Predicts with an uncertainty that grows away from what was seen. The standard deviation includes the noise.

    Made for tens to a thousand rows of one-hots and numbers; features are standardised, targets warped and standardised.
    """

    def __init__(self) -> None:
        self._chosen: Hyperparameters | None = None

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and finite targets of shape (n,), n >= 2."""
        features, targets = checked(features, targets)
        some = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), CHOICE_ROWS)).astype(int))
        rows = Scaling.of(features).apply(features)[some]
        warp, relevance = _choose_warp(rows, targets[some])
        centred = _standardised(warp.apply(targets))[some]
        chosen = _calibrated(rows, centred, _choose(rows * relevance, centred))
        self._condition(features, targets, relevance, chosen, warp)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each of shape (n,), of what would be measured, for features of shape (n, d).

        The mean is that of the warped target, warped back (its median); mean ± 1.645 standard deviations is as wide as the
        interval that holds 90 %.
        """
        return self._predict(features, with_noise=True)

    def predict_latent(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return `predict` without the noise: the standard deviation, (n,), is the model's own doubt about the mean."""
        return self._predict(features, with_noise=False)

    def predict_mean(self, features: FloatArray) -> FloatArray:
        """Return the mean alone, shape (n,), in single precision inside: several times faster than `predict`."""
        chosen, mean = self._fitted(), np.empty(len(features))
        train = self._rows.astype(np.float32)
        weights, slopes = self._weights.astype(np.float32), (self._rows.T @ self._weights).astype(np.float32)
        offset, share = float(self._weights.sum()), chosen.rbf_share
        for start in range(0, len(features), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = (self._scaling.apply(np.asarray(features[part])) * self._relevance).astype(np.float32)
            mean[part] = offset + (1.0 - share) * (rows @ slopes)
            if share:
                exponents = rows @ train.T
                exponents -= 0.5 * np.einsum("ij,ij->i", rows, rows)[:, None]
                exponents -= 0.5 * np.einsum("ij,ij->i", train, train)
                exponents *= np.float32(0.5 / chosen.length**2)
                mean[part] += share * (np.exp(exponents, out=exponents) @ weights)
        return self._unwarp(mean)

    @property
    def middle(self) -> float:
        """Median of the training targets."""
        self._fitted()
        return float(np.median(self._targets))

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise, in the targets' unit, around `middle`."""
        chosen = self._fitted()
        middle = (self._warp.apply(np.array([self.middle])) - self._target_mean) / self._target_std
        return float(self._half_width(middle, np.array([np.sqrt(chosen.signal * chosen.noise)]))[0])

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
            "warp": [self._warp.centre, self._warp.scale, self._warp.skew, self._warp.tail],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianProcess:
        """Return the predictor whose state this is; one from before targets were warped has no warp."""
        restored = cls()
        features, targets, relevance = (np.array(state[name], dtype=float) for name in ("features", "targets", "relevance"))
        chosen = Hyperparameters(*(float(state[name]) for name in ("length", "rbf_share", "noise", "signal")))
        restored._condition(features, targets, relevance, chosen, Warp(*map(float, state.get("warp", (0.0, 1.0)))))
        return restored

    def _condition(
        self, features: FloatArray, targets: FloatArray, relevance: FloatArray, chosen: Hyperparameters, warp: Warp
    ) -> None:
        from scipy.linalg import cho_solve, cholesky, solve_triangular

        self._features, self._targets, self._relevance, self._chosen = features, targets, relevance, chosen
        self._scaling = Scaling.of(features)
        self._rows: FloatArray = self._scaling.apply(features) * relevance
        self._warp, warped = warp, warp.apply(targets)
        self._target_mean, self._target_std = float(warped.mean()), spread_of(warped)
        kernel = _kernel(self._rows, self._rows, chosen)
        kernel[np.diag_indices_from(kernel)] += chosen.noise
        lower = cholesky(kernel, lower=True)
        self._weights: FloatArray = cho_solve((lower, True), _standardised(warped))
        # An explicit inverse of the triangle turns the variance of many rows into one matrix product.
        self._whiten: FloatArray = solve_triangular(lower, np.eye(len(targets)), lower=True)

    def _fitted(self) -> Hyperparameters:
        if self._chosen is None:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        return self._chosen

    def _predict(self, features: FloatArray, with_noise: bool) -> tuple[FloatArray, FloatArray]:
        chosen = self._fitted()
        mean, variance = np.empty(len(features)), np.empty(len(features))
        for start in range(0, len(features), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = self._scaling.apply(np.asarray(features[part], dtype=np.float64)) * self._relevance
            cross = _kernel(rows, self._rows, chosen)
            prior = 1.0 + chosen.rbf_share + (1.0 - chosen.rbf_share) * np.square(rows).sum(axis=1)
            explained = np.square(cross @ self._whiten.T).sum(axis=1)
            mean[part], variance[part] = cross @ self._weights, np.maximum(prior - explained, 1e-12)
        std = np.sqrt(chosen.signal * (variance + (chosen.noise if with_noise else 0.0)))
        return self._unwarp(mean), self._half_width(mean, std)

    def _unwarp(self, standard: FloatArray) -> FloatArray:
        return self._warp.invert(standard * self._target_std + self._target_mean)

    def _half_width(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Return the standard deviation (n,) whose 90 % interval in the targets' unit is as wide as the warped one."""
        width: FloatArray = self._unwarp(mean + NORMAL_95 * std) - self._unwarp(mean - NORMAL_95 * std)
        return width / (2.0 * NORMAL_95)


def _standardised(values: FloatArray) -> FloatArray:
    standard: FloatArray = (values - values.mean()) / spread_of(values)
    return standard


def _kernel(left: FloatArray, right: FloatArray, chosen: Hyperparameters) -> FloatArray:
    """Return the covariances of rows (n, d) and (m, d) over the signal's variance, shape (n, m)."""
    return covariance(*products(left, right), chosen.length, chosen.rbf_share)


def _choose(rows: FloatArray, targets: FloatArray) -> Hyperparameters:
    """Return the point of the grid with the best leave-one-out predictive density."""
    linear, distances = products(rows, rows)
    best: tuple[float, Hyperparameters] | None = None
    for length in LENGTHS:
        for share in RBF_SHARES:
            if share == 0.0 and length != LENGTHS[0]:
                continue  # the length does not matter
            choice = leave_one_out(covariance(linear, distances, length, share), targets)
            if best is None or choice.loss < best[0]:
                best = (choice.loss, Hyperparameters(length, share, choice.noise, choice.signal))
    assert best is not None
    return best[1]


def _choose_warp(rows: FloatArray, targets: FloatArray) -> tuple[Warp, FloatArray]:
    """Return the warp under which a linear kernel gives rows left out the best density, and the relevances under it."""
    full = Warp.of(targets)
    found: list[tuple[float, Warp, FloatArray]] = []
    for strength in STRENGTHS:
        warp = full.weakened(strength)
        warped = warp.apply(targets)
        relevance = relevances(rows, _standardised(warped))
        weighted = rows * relevance
        loss = leave_one_out(1.0 + weighted @ weighted.T, _standardised(warped)).loss
        # Densities are compared in the targets' own unit.
        found.append((loss + len(targets) * np.log(spread_of(warped)) - float(warp.log_slope(targets).sum()), warp, relevance))
        if full == warp.weakened(0.0):
            break
    _, best, relevance = min(found, key=lambda one: one[0])
    return best, relevance


def _calibrated(rows: FloatArray, targets: FloatArray, chosen: Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters with a signal that fits rows whose targets had no part in the relevances.

    Args:
        rows: Scaled and not weighted, shape (n, d).
        targets: Standardised, shape (n,).
        chosen: What was chosen with the relevances of all rows.
    """
    count = len(targets)
    fold = np.random.default_rng(0).permutation(np.arange(count) % FOLDS)  # a fixed deal: a fit repeats
    squares = np.ones(count)
    for index in range(FOLDS if count > FOLDS else 0):
        rest, out = fold != index, fold == index
        centre = targets[rest].mean()
        relevance = relevances(rows[rest], targets[rest] - centre)
        seen, new = rows[rest] * relevance, rows[out] * relevance
        kernel = _kernel(seen, seen, chosen)
        kernel[np.diag_indices_from(kernel)] += chosen.noise
        cross = _kernel(new, seen, chosen)
        solved = np.linalg.solve(kernel, cross.T)  # (rest, out)
        prior = 1.0 + chosen.rbf_share + (1.0 - chosen.rbf_share) * np.square(new).sum(axis=1)
        variance = np.maximum(prior - np.einsum("ij,ji->i", cross, solved), 0.0) + chosen.noise
        squares[out] = np.square(targets[out] - centre - (targets[rest] - centre) @ solved) / (chosen.signal * variance)
    return replace(chosen, signal=chosen.signal * max(1.0, float(squares.mean())))
