"""A monotone map under which measured values are nearly normal, so that a Gaussian process can be fitted to them.

Errors crowd near their best value and have a long tail of broken networks. Fitted as they are, the tail decides where the
model is good; in normal scores (Van der Waerden, 1952) every rank counts alike, which matters most near the front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.core import FloatArray

SHARES = (0.0, 0.5, 1.0)  # of the normal scores in the map; the rest is linear
LEVELS = np.array([0.0, 0.04, 0.1, 0.25, 0.5, 0.75, 0.9, 0.96, 1.0])  # quantiles that are the knots


@dataclass(frozen=True, slots=True)
class Warp:
    """A piecewise linear, strictly increasing map, which goes on beyond its knots as it ends.

    Attributes:
        knots: Increasing values, shape (k,), k >= 2.
        images: What they map to, shape (k,), increasing.
    """

    knots: FloatArray
    images: FloatArray

    @classmethod
    def of(cls, values: FloatArray, share: float) -> Warp:
        """Return the map for these values, shape (n,): `share` of normal scores, the rest of standardised values."""
        from scipy.special import ndtri

        quantiles = np.quantile(values, LEVELS)
        knots, first, count = np.unique(quantiles, return_index=True, return_counts=True)
        if len(knots) < 2:
            return cls(knots[0] + np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 0.0, 1.0]))
        scores = ndtri(np.clip(LEVELS, 0.5 / len(values), 1.0 - 0.5 / len(values)))
        middle = 0.5 * (scores[first] + scores[first + count - 1])  # quantiles that tie share the middle of their scores
        return cls(knots, share * middle + (1.0 - share) * (knots - values.mean()) / values.std())

    def _slopes(self) -> FloatArray:
        slopes: FloatArray = np.diff(self.images) / np.diff(self.knots)
        return slopes

    def slope(self, values: FloatArray) -> FloatArray:
        """Return the slopes at values of any shape."""
        slopes = self._slopes()
        at: FloatArray = slopes[np.clip(np.searchsorted(self.knots, values) - 1, 0, len(slopes) - 1)]
        return at

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return the images of values of any shape."""
        slopes = self._slopes()
        images: FloatArray = np.interp(values, self.knots, self.images)
        images += slopes[0] * np.minimum(values - self.knots[0], 0.0) + slopes[-1] * np.maximum(values - self.knots[-1], 0.0)
        return images

    def limit(self, value: float) -> float:
        """Return the image of an upper limit, which is infinite where there is none."""
        return float(self(np.array([value]))[0]) if np.isfinite(value) else value

    def inverse(self, images: FloatArray) -> FloatArray:
        """Return the values that have these images, of any shape."""
        slopes = self._slopes()
        below, above = np.minimum(images - self.images[0], 0.0), np.maximum(images - self.images[-1], 0.0)
        values: FloatArray = np.interp(images, self.images, self.knots)
        values += below / slopes[0] + above / slopes[-1]
        return values
