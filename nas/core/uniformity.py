"""How evenly a network serves its tasks under a preference."""

from __future__ import annotations

import numpy as np

from nas.core.types import FloatArray


def uniformity(preferences: FloatArray, losses: FloatArray) -> FloatArray:
    """Return how near losses are to being inversely proportional to the preferences: one where they are.

    The measure of Raychaudhuri et al., Controllable Dynamic Multi-Task Architectures (CVPR 2022): one minus the
    Kullback-Leibler divergence, in nats, of the normalised products of preference and loss from the uniform distribution.

    Args:
        preferences: Zero or more, shape (..., tasks).
        losses: Positive, of one scale, shape (..., tasks).

    Returns:
        Shape (...). A task without preference counts as nothing, as p log p is zero at zero.
    """
    products = np.asarray(preferences, dtype=float) * np.asarray(losses, dtype=float)
    parts = products / products.sum(axis=-1, keepdims=True)
    tasks = parts.shape[-1]
    divergence = (parts * np.log(np.where(parts > 0, parts * tasks, 1.0))).sum(axis=-1)
    return np.asarray(1.0 - divergence)
