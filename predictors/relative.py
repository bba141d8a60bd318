"""Predicts positive quantities, such as a latency, where what counts is the relative error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.core import DataError, FloatArray
from predictors.gaussian_process import GaussianProcess

MOST_STD = 10.0  # of a logarithm: a factor of 22,000 says that nothing is known, and its square is still a number


class LogGaussianProcess:
    """A Gaussian process on the logarithm of positive targets; mean and standard deviation are in the targets' own unit."""

    def __init__(self) -> None:
        self._inner = GaussianProcess()

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and positive targets of shape (n,), n >= 2.

        Raises:
            DataError: A target is not positive.
        """
        targets = np.asarray(targets, dtype=np.float64)
        if not (targets > 0).all():
            raise DataError(
                f"a relative error needs positive targets; {int((~(targets > 0)).sum())} of {targets.size} are not; "
                "leave them out or use 'gaussian_process'"
            )
        self._inner.fit(features, np.log(targets))

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the median and the standard deviation of a log-normal, each of shape (n,)."""
        return _exponential(*self._inner.predict(features))

    def predict_latent(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return `predict` without the noise: the standard deviation, (n,), is the model's own doubt about the median."""
        return _exponential(*self._inner.predict_latent(features))

    def predict_mean(self, features: FloatArray) -> FloatArray:
        """Return the median alone, shape (n,), several times faster than `predict`."""
        median: FloatArray = np.exp(self._inner.predict_mean(features))
        return median

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise, in the targets' unit, around the middle of the training targets."""
        middle = np.array([self._inner.middle])
        return float(_exponential(middle, np.array([self._inner.noise_std]))[1][0])

    def state(self) -> dict[str, Any]:
        """Return the state of the Gaussian process of the logarithms."""
        return self._inner.state()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LogGaussianProcess:
        """Return the predictor whose state this is."""
        restored = cls()
        restored._inner = GaussianProcess.from_state(state)
        return restored


def _exponential(mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the median and the standard deviation of the log-normal of a normal mean and standard deviation."""
    median, std = np.exp(mean), np.minimum(std, MOST_STD)
    return median, median * np.sqrt(np.expm1(std**2) * np.exp(std**2))
