"""Ridge regression whose penalty is chosen by leave-one-out in closed form.

Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009: sections 3.4.1 and 7.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.core import FloatArray
from predictors.scaling import IntArray, Scaling, checked

PENALTIES = np.geomspace(1e-4, 1e4, 41)


class Ridge:
    """A linear model; its standard deviation is that of the leave-one-out residuals, wider away from the training rows."""

    def __init__(self) -> None:
        self._kept: IntArray = np.empty(0, dtype=np.int64)
        self._state: dict[str, FloatArray] = {}

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and finite targets of shape (n,), n >= 2."""
        features, targets = checked(features, targets)
        scaling = Scaling.of(features)
        left, singular, right = np.linalg.svd(scaling.apply(features), full_matrices=False)
        centred = targets - targets.mean()
        projected = left.T @ centred
        best: tuple[float, float, FloatArray] = (np.inf, 0.0, np.zeros(0))
        for penalty in PENALTIES:
            shrink = singular**2 / (singular**2 + penalty)
            leverage = np.square(left) @ shrink + 1.0 / len(targets)  # the mean is fitted too
            residuals = (centred - left @ (shrink * projected)) / np.maximum(1.0 - leverage, 1e-9)
            error = float(np.square(residuals).mean())
            if error < best[0]:
                best = (error, float(penalty), right.T @ (singular / (singular**2 + penalty) * projected))
        error, penalty, weights = best
        # Rows of `root` squared and summed give x (X'X + penalty)^-1 x' within the span of the training rows.
        root = right / np.sqrt(singular**2 + penalty)[:, None]
        self._kept = scaling.kept
        self._state = {
            "mean": scaling.mean,
            "std": scaling.std,
            "weights": weights,
            "root": root,
            "scalars": np.array([targets.mean(), np.sqrt(error), 1.0 / len(targets), penalty]),
        }

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each of shape (n,), for features of shape (n, d)."""
        if not self._state:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        fitted = self._state
        scaling = Scaling(self._kept, fitted["mean"], fitted["std"])
        rows = scaling.apply(np.asarray(features, dtype=np.float64))
        centre, residual_std, share, _ = fitted["scalars"].tolist()
        distance = np.square(rows @ fitted["root"].T).sum(axis=1)
        return rows @ fitted["weights"] + centre, residual_std * np.sqrt(1.0 + share + distance)

    def state(self) -> dict[str, Any]:
        """Return what was fitted as lists of numbers."""
        if not self._state:
            raise RuntimeError("a predictor has a state after it was fitted; call fit first")
        return {"kept": self._kept.tolist(), **{name: array.tolist() for name, array in self._state.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ridge:
        """Return the predictor whose state this is."""
        restored = cls()
        restored._kept = np.array(state["kept"], dtype=np.int64)
        restored._state = {name: np.array(values, dtype=np.float64) for name, values in state.items() if name != "kept"}
        return restored
