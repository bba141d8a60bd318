"""What a predictor sees of an architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from nas.core import DataError, FloatArray, SearchSpace


def summaries(space: SearchSpace) -> FloatArray:
    """Return the matrix that maps one-hots of `space` to sums over choices, shape (width, k).

    One-hots alone let every option of every choice have an effect of its own, which tens of rows cannot tell apart. The sums
    let choices share one: a column for the rank of each choice's option (options are ordered, the smallest network first,
    and an inactive choice has rank 0), and, for choices whose names differ in their numbers alone, such as the kernel sizes
    of all layers, the sum of these ranks over all of them, over each half, each quarter and so on, and the number of times
    that each option is picked. The last column is the sum of all ranks.

    On recorded ImageNet accuracies of 2,223 once-for-all MobileNetV3 subnets, they raised the rank correlation from 50
    training rows as much as twice the rows did.
    """
    ranks = np.zeros((space.width, len(space.choices)))
    picks: dict[tuple[str, int], list[int]] = {}  # family to the first column of each member
    members: dict[tuple[str, int], list[int]] = {}
    start = 0
    for index, choice in enumerate(space.choices):
        count = len(choice.options)
        ranks[start : start + count, index] = np.arange(1, count + 1) / count
        family = (re.sub(r"\d+", "#", choice.name), count)
        picks.setdefault(family, []).append(start)
        members.setdefault(family, []).append(index)
        start += count
    columns = [ranks]
    for family, of_family in members.items():
        parts = 1
        while 2 * parts <= len(of_family):
            columns += [ranks[:, part].sum(axis=1, keepdims=True) for part in np.array_split(np.array(of_family), parts)]
            parts *= 2
        if len(of_family) > 1:
            counts = np.zeros((space.width, family[1]))
            for first in picks[family]:
                counts[np.arange(first, first + family[1]), np.arange(family[1])] = 1.0
            columns.append(counts)
    return np.hstack([*columns, ranks.sum(axis=1, keepdims=True)])


def architecture_features(
    space: SearchSpace, encoded: FloatArray, counted: Mapping[str, FloatArray] | None = None
) -> FloatArray:
    """Return the features to predict a quality from, such as an accuracy, for ``gaussian_process``.

    Args:
        space: The search space of the one-hots.
        encoded: Its one-hot rows, shape (n, width).
        counted: Name to counts such as ``macs``, each of shape (n,), positive; their logarithms become features.

    Returns:
        Shape (n, width + k): the one-hots, their `summaries`, the logarithms of the counts in the order of their names.

    Raises:
        DataError: A count is not positive, or has another length.
    """
    columns = [encoded, encoded @ summaries(space)]
    columns += [np.log(values)[:, None] for values in _checked_counts(encoded, counted or {}).values()]
    return np.hstack(columns)


def cost_features(encoded: FloatArray, counted: Mapping[str, FloatArray]) -> FloatArray:
    """Return the features to predict a measured cost from, for ``log_gaussian_process``.

    The one-hots carry what is particular to a choice; the counts carry how cost grows with size, both as they are and in
    logarithms, so that a cost that is proportional to a count and one that is a sum over parts are both close to linear.
    The number of active choices stands for the number of operators, each of which has its overhead. On recorded latencies
    of 5,000 once-for-all MobileNetV3 subnets, 100 training rows and 32 or more images per batch, adding counts to one-hots
    brought the share of subnets predicted within 10 % from 0.74 to 0.99.

    Args:
        encoded: One-hot rows of a search space, shape (n, width).
        counted: Name to counts such as ``macs`` and ``params``, each of shape (n,), positive.

    Returns:
        Shape (n, width + 1 + 2 * len(counted)), the counts in the order of their names.

    Raises:
        DataError: A count is not positive, or has another length.
    """
    columns = [encoded, encoded.sum(axis=1, keepdims=True)]
    for values in _checked_counts(encoded, counted).values():
        columns += [np.log(values)[:, None], values[:, None]]
    return np.hstack(columns)


def _checked_counts(encoded: FloatArray, counted: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the counts by name, as float64."""
    checked = {}
    for name in sorted(counted):
        values = np.asarray(counted[name], dtype=np.float64)
        if values.shape != encoded.shape[:1] or not (values > 0).all():
            raise DataError(
                f"every architecture has positive counts: {name} has shape {values.shape} for {len(encoded)} architectures and "
                f"{int((~(values > 0)).sum())} values that are not positive; count it again"
            )
        checked[name] = values
    return checked
