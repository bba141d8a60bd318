"""A monotone map of targets to what is closer to normal, so that a few extreme values do not decide what is learned.

Jones and Pewsey, Sinh-arcsinh distributions, Biometrika 2009; used as the warp of a Gaussian process as in Rios and Tobar,
Compositionally-warped Gaussian processes, 2019. Accuracies of many spaces have a long tail of networks that failed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.core import FloatArray

SKEWS = np.linspace(-4.0, 4.0, 33)
TAILS = np.geomspace(0.25, 4.0, 17)
SHRINK = 3.0  # log-likelihood that a unit of squared distance from the identity costs: small samples are warped little


def spread_of(values: FloatArray) -> float:
    """Return the standard deviation of values (n,), or 1 where they do not vary beyond rounding."""
    spread = float(values.std())
    return spread if spread > 1e-12 * float(np.abs(values).max()) else 1.0


@dataclass(frozen=True, slots=True)
class Warp:
    """Maps y to ``sinh(tail * arcsinh((y - centre) / scale) - skew)``, which is the identity for skew 0 and tail 1.

    Attributes:
        centre: In the targets' unit, as is `scale`.
        skew: Positive where the long tail is on the right.
        tail: Below 1 where tails are long.
    """

    centre: float
    scale: float
    skew: float = 0.0
    tail: float = 1.0

    @classmethod
    def of(cls, targets: FloatArray) -> Warp:
        """Return the warp under which these targets, of shape (n,), are most likely a normal sample."""
        low, centre, high = np.quantile(targets, [0.16, 0.5, 0.84])  # one standard deviation of a normal sample
        scale = float(high - low) / 2.0
        if scale <= 1e-9 * float(np.abs(targets).max()):
            return cls(float(targets.mean()), spread_of(targets))
        units = (targets - centre) / scale
        inner = TAILS[:, None, None] * np.arcsinh(units) - SKEWS[:, None]  # (tails, skews, n)
        spread = np.sinh(inner).std(axis=2)
        slopes = np.log(np.cosh(inner)).mean(axis=2) + np.log(TAILS)[:, None]
        far = 2.0 * np.square(np.log(TAILS))[:, None] + np.square(SKEWS)
        loss = np.log(spread) - slopes + SHRINK * far / len(targets)
        tail, skew = np.unravel_index(int(loss.argmin()), loss.shape)
        return cls(float(centre), scale, float(SKEWS[skew]), float(TAILS[tail]))

    def weakened(self, strength: float) -> Warp:
        """Return the warp between the identity (strength 0) and this one (strength 1)."""
        return Warp(self.centre, self.scale, self.skew * strength, self.tail**strength)

    def apply(self, targets: FloatArray) -> FloatArray:
        """Return warped targets, shape (n,)."""
        warped: FloatArray = np.sinh(self._inner(targets))
        return warped

    def invert(self, warped: FloatArray) -> FloatArray:
        """Return targets, shape (n,), in their own unit."""
        targets: FloatArray = self.centre + self.scale * np.sinh((np.arcsinh(warped) + self.skew) / self.tail)
        return targets

    def log_slope(self, targets: FloatArray) -> FloatArray:
        """Return the logarithm of the derivative of `apply`, shape (n,)."""
        squares = np.square((targets - self.centre) / self.scale)
        slope: FloatArray = np.log(np.cosh(self._inner(targets)) * self.tail / self.scale) - 0.5 * np.log1p(squares)
        return slope

    def _inner(self, targets: FloatArray) -> FloatArray:
        inner: FloatArray = self.tail * np.arcsinh((targets - self.centre) / self.scale) - self.skew
        return inner
