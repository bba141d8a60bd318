"""The covariance of the Gaussian processes here, and what is chosen for it by the density of rows that are left out.

The covariance is a constant, a linear part whose features are weighted by their relevance, and a squared exponential, which on
one-hots is a product over the choices: an interaction of every order. Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006: the leave-one-out predictive density by equations 5.10 to 5.12. Relevances by MacKay's automatic relevance
determination (1994) for the linear kernel, damped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.core import FloatArray

LENGTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # of the squared exponential; weighted rows are sqrt(2) apart on average
RBF_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0)  # of the squared exponential in the signal's variance; the rest is linear
NOISES = np.geomspace(1e-4, 10.0, 25)  # variance of the noise over that of the signal
ROUNDS = 2  # of relevance determination


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The noise with the best leave-one-out predictive density under one kernel.

    Attributes:
        loss: Minus the logarithm of the density, up to a constant.
        noise: Variance of the noise over that of the signal.
        signal: Variance of the signal.
        weights: Of the rows, shape (n,).
        predicted: Each row's target, from the other rows, shape (n,).
    """

    loss: float
    noise: float
    signal: float
    weights: FloatArray
    predicted: FloatArray


def covariance(inner: FloatArray, distances: FloatArray, length: float, rbf_share: float) -> FloatArray:
    """Return covariances over the signal's variance, from inner products and squared distances of one shape."""
    kernel: FloatArray = 1.0 + (1.0 - rbf_share) * inner
    if rbf_share:
        kernel += rbf_share * np.exp(np.maximum(distances, 0.0) / (-4.0 * length**2))
    return kernel


def products(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return inner products and squared distances of rows (n, d) and (m, d), each of shape (n, m)."""
    inner = left @ right.T
    distances: FloatArray = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :] - 2.0 * inner
    return inner, distances


def leave_one_out(kernel: FloatArray, targets: FloatArray) -> LeftOut:
    """Return the best of `NOISES` for a kernel (n, n) and centred targets (n,), all of them by one eigendecomposition."""
    from scipy.linalg import eigh

    values, vectors = eigh(kernel, check_finite=False)
    spectrum = np.maximum(values, 0.0)[:, None] + NOISES  # (n, noises)
    weights = vectors @ ((vectors.T @ targets)[:, None] / spectrum)
    precision = np.square(vectors) @ (1.0 / spectrum)  # the diagonal of the inverse
    signal = np.maximum((np.square(weights) / precision).mean(axis=0), 1e-300)  # residuals have variance signal / precision
    losses = 0.5 * (len(targets) * np.log(signal) - np.log(precision).sum(axis=0))
    best = int(losses.argmin())
    predicted = targets - weights[:, best] / precision[:, best]
    return LeftOut(float(losses[best]), float(NOISES[best]), float(signal[best]), weights[:, best], predicted)


def relevances(rows: FloatArray, targets: FloatArray) -> FloatArray:
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
        left_out = leave_one_out(kernel, targets)
        kernel[np.diag_indices_from(kernel)] += left_out.noise
        explained = np.einsum("ij,ij->j", weighted, np.linalg.solve(kernel, weighted))
        moment = np.square(weighted.T @ left_out.weights) + left_out.signal * np.clip(1.0 - explained, 0.0, 1.0)
        relevance = relevance * (np.maximum(moment, 1e-300) / max(float(moment.mean()), 1e-300)) ** 0.25
    return relevance
