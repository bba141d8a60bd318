"""Trees that follow from the affinity of tasks: tasks that are alike in a layer share it. How they are grown is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from nas.core import FloatArray
from nas.core.affinity import Tree
from nas.core.branching import Partition, branching_picks, partition, tree
from nas.train.affinity.covariance import shared_width

ALPHA_PER_AFFINITY = 4.0  # an affinity higher by a quarter makes a branch e times as likely


def propose(
    affinity: FloatArray, tasks: Sequence[str], ranks: FloatArray | None = None, channels: FloatArray | None = None
) -> list[Tree]:
    """Return trees from the one where all is shared to the one where nothing is, each once.

    In every layer the tasks are grouped by average linkage of 1 - affinity; a tree cuts all layers at one height. A layer that
    would put together what an earlier one parted leaves it parted.

    Args:
        affinity: In [0, 1], shape (layers, tasks, tasks); two tasks or more. Where it is not symmetric, the mean counts.
        tasks: Names, in the job's order.
        ranks: Of each task's representation, shape (layers, tasks); None suggests no widths.
        channels: Of a layer at full width, shape (layers,).
    """
    distance = np.clip(1 - (affinity + affinity.transpose(0, 2, 1)) / 2, 0, 1)
    groupings = [linkage(squareform(layer, checks=False), "average") for layer in distance]
    heights = sorted({float(height) for grouping in groupings for height in grouping[:, 2]}, reverse=True)
    found: dict[tuple[Partition, ...], None] = {}
    for height in [*heights, -1.0]:
        cut = [partition(fcluster(grouping, height, "distance").tolist(), tasks) for grouping in groupings]
        found[tree(branching_picks(cut, tasks), tasks, len(cut))] = None
    return [
        Tree(partitions, _widths(partitions, tasks, ranks, channels), dissimilarity(partitions, distance, tasks))
        for partitions in found
    ]


def dissimilarity(partitions: Sequence[Partition], distance: FloatArray, tasks: Sequence[str]) -> float:
    """Return the sum over layers and over pairs of tasks that share one of their distance there."""
    index = {task: i for i, task in enumerate(tasks)}
    return float(
        sum(
            layer[index[left], index[right]]
            for layer, blocks in zip(distance, partitions, strict=True)
            for block in blocks
            for i, left in enumerate(block)
            for right in block[i + 1 :]
        )
    )


def initial_alpha(affinity: FloatArray) -> FloatArray:
    """Return what a differentiable search may begin with: logits of task t on branch j, both of shape (layers, tasks, tasks).

    Tasks that are alike have like rows, and so take the same branch the more often. The mean of a row is 0.
    """
    alpha = ALPHA_PER_AFFINITY * affinity
    return np.asarray(alpha - alpha.mean(axis=2, keepdims=True))


def _widths(
    partitions: Sequence[Partition], tasks: Sequence[str], ranks: FloatArray | None, channels: FloatArray | None
) -> tuple[Mapping[str, float], ...]:
    if ranks is None or channels is None:
        return ()
    return tuple(
        {block[0]: shared_width([float(own[tasks.index(task)]) for task in block], float(full)) for block in blocks}
        for blocks, own, full in zip(partitions, ranks, channels, strict=True)
    )
