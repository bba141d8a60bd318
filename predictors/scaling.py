"""Checks of what a predictor is fitted to, and the scaling of its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import DataError, FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Moves every feature to mean 0 and standard deviation 1; a feature that never varied is left out.

    Attributes:
        kept: Columns that vary, shape (k,). At least one, so that there is something to divide by.
        mean: Of the columns kept, shape (k,).
        std: Of the columns kept, shape (k,).
    """

    kept: IntArray
    mean: FloatArray
    std: FloatArray

    @classmethod
    def of(cls, features: FloatArray) -> Scaling:
        """Return the scaling of these features, of shape (n, d)."""
        std = features.std(axis=0)
        varies = std > 1e-12 * np.maximum(np.abs(features).max(axis=0), 1e-300)
        varies[0] |= not varies.any()
        return cls(np.flatnonzero(varies).astype(np.int64), features.mean(axis=0)[varies], np.where(std > 0, std, 1.0)[varies])

    def apply(self, features: FloatArray) -> FloatArray:
        """Return scaled features of shape (n, k)."""
        scaled: FloatArray = (features[:, self.kept] - self.mean) / self.std
        return scaled


def checked(features: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both as float64 arrays.

    Raises:
        DataError: The shapes do not belong together, there are fewer than two rows, or a value is not finite.
    """
    features, targets = np.asarray(features, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if features.ndim != 2 or targets.shape != features.shape[:1] or len(targets) < 2 or features.shape[1] < 1:
        raise DataError(
            f"a predictor is fitted to features (n, d) and targets (n,), n >= 2 and d >= 1; it got {features.shape} and "
            f"{targets.shape}; give one target per row"
        )
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise DataError(
            f"a predictor is fitted to finite numbers; {int((~np.isfinite(features)).any(axis=1).sum())} rows of features and "
            f"{int((~np.isfinite(targets)).sum())} targets are not; leave them out"
        )
    return features, targets
