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
    distance = 1 - (affinity + affinity.transpose(0, 2, 1)) / 2
    groupings = [_grouping(layer) for layer in distance]
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

    The tree they derive groups, in each layer, what is more alike than two tasks are on average over all layers; a group takes
    the branch of its first task. Logits are the affinity of a task with each group, so that a close call stays one. The rows
    have mean 0.

    Args:
        affinity: In [0, 1], shape (layers, tasks, tasks). Where it is not symmetric, the mean counts.
    """
    alike = (affinity + affinity.transpose(0, 2, 1)) / 2
    tasks = alike.shape[1]
    if tasks < 2:
        return np.zeros_like(alike)
    average = float(alike[:, ~np.eye(tasks, dtype=bool)].mean())
    alpha = np.full_like(alike, float(alike.min()))  # of the branch of a task that leads no group
    for layer, matrix in enumerate(alike):
        labels = fcluster(_grouping(1 - matrix), 1 - average, "distance")
        for label in set(labels.tolist()):
            group = np.flatnonzero(labels == label)
            for task in range(tasks):
                others = group[group != task]
                score = float(matrix[task, others].mean()) if len(others) else average
                alpha[layer, task, group[0]] = max(score, average) if task in group else min(score, average)
    alpha *= ALPHA_PER_AFFINITY
    return np.asarray(alpha - alpha.mean(axis=2, keepdims=True))


def _grouping(distance: FloatArray) -> FloatArray:
    """Return the average linkage of tasks whose distances are given, shape (tasks, tasks)."""
    return np.asarray(linkage(squareform(np.clip(distance, 0, 1), checks=False), "average"))


def _widths(
    partitions: Sequence[Partition], tasks: Sequence[str], ranks: FloatArray | None, channels: FloatArray | None
) -> tuple[Mapping[str, float], ...]:
    if ranks is None or channels is None:
        return ()
    return tuple(
        {block[0]: shared_width([float(own[tasks.index(task)]) for task in block], float(full)) for block in blocks}
        for blocks, own, full in zip(partitions, ranks, channels, strict=True)
    )
