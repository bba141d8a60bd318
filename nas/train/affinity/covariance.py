"""Covariance similarity and capacity (Wu, Zhang and Ré, Understanding and Improving Information Transfer, ICLR 2020).

The similarity of representations with covariances U1·D1·U1ᵀ and U2·D2·U2ᵀ is ||(U1·√D1)ᵀ U2·√D2|| / (||U1·√D1|| ||U2·√D2||), in
Frobenius norms and at the rank that holds 99 % of the spectrum. Divided by the geometric mean of the two scores of each with
itself, which is ours, it is 1 where they agree. The covariance here is that between samples, not between channels, which is
ours too: networks that were trained apart have no channels in common, and rotating those of one must not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas.core import FloatArray

SPECTRUM = 0.99


def principal(samples: Tensor) -> Tensor:
    """Return the principal components U·√D that hold 99 % of the variance, shape (n, rank); rank 0 of what is constant.

    Args:
        samples: Shape (n, channels); their mean is taken off.
    """
    centred = samples.double() - samples.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    values, vectors = values.clamp(min=0).flip(0), vectors.flip(1)
    total = float(values.sum())
    if total <= 1e-12 * len(samples):
        return centred[:, :0]
    rank = int((values.cumsum(0) < (SPECTRUM - 1e-9) * total).sum()) + 1
    components: Tensor = centred @ vectors[:, :rank]
    return components


def covariance_similarity(components: Sequence[Tensor]) -> FloatArray:
    """Return the normalised similarity of one layer, shape (tasks, tasks), in [0, 1]; 0 with what is constant.

    Args:
        components: What `principal` gave of each task, on the same samples.
    """
    raw = np.array([[float((left.T @ right).norm()) for right in components] for left in components])
    own = np.sqrt(np.diag(raw))
    similarity = np.divide(raw, own[:, None] * own, out=np.zeros_like(raw), where=own[:, None] * own > 0)
    np.fill_diagonal(similarity, 1.0)
    return np.asarray(similarity)


def shared_width(ranks: Sequence[float], channels: float) -> float:
    """Return how wide what several tasks share need be, as a share of its channels: the sum of their capacities, at most 1.

    That what is wider than the tasks' capacities together need not transfer anything is proposition 1 of the paper; that a
    task's capacity is the rank of its representation is ours.
    """
    return min(1.0, math.fsum(ranks) / channels)
