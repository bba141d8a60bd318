"""Representation similarity: tasks are alike in a layer where they find the same images alike.

The affinity is that of Raychaudhuri et al., Controllable Dynamic Multi-Task Architectures, CVPR 2022: with S_l(i) the K×K
similarity of K images in the features of task i at layer l, D_l(i, j) = ||S_l(i) - S_l(j)||, rows scaled to [0, 1], A = 1 - D.
How features are compared is ours: the cosine of features from which their mean over the images is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas.core import FloatArray

ROUNDING = 1e-9  # below it, of the norm, similarities do not differ


def image_similarity(features: Tensor) -> Tensor:
    """Return the cosine of every two images' features about their mean, shape (k, k); 0 for an image at the mean.

    Args:
        features: Shape (k, d). A rotation of the d directions changes nothing.
    """
    centred = features.double() - features.double().mean(0)
    return torch.nn.functional.normalize(centred, dim=1) @ torch.nn.functional.normalize(centred, dim=1).T


def rsa_affinity(similarities: Sequence[Tensor]) -> FloatArray:
    """Return A(i, j) = 1 - D(i, j) / max_j D(i, j) of one layer, shape (tasks, tasks); 1 where no two tasks differ.

    Args:
        similarities: One per task, each of shape (k, k).
    """
    flat = torch.stack([each.flatten() for each in similarities])
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    largest = distance.max(axis=1, keepdims=True)
    differ = largest > ROUNDING * float(flat.norm())
    return np.asarray(1 - np.divide(distance, largest, out=np.zeros_like(distance), where=differ))


def closeness(similarities: Sequence[Tensor]) -> FloatArray:
    """Return 1 - ||S(i) - S(j)|| / (||S(i)|| + ||S(j)||) over different images, shape (tasks, tasks), in [0, 1]. Ours.

    Rows scaled to their largest say nothing of two tasks, nor which of two layers is the more alike; this does.
    """
    count = len(similarities[0])
    pairs = torch.triu_indices(count, count, offset=1)
    flat = torch.stack([each[pairs[0], pairs[1]] for each in similarities])
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    norm = flat.norm(dim=1).numpy()
    most = norm[:, None] + norm
    return np.asarray(1 - np.divide(distance, most, out=np.zeros_like(distance), where=most > 0))
