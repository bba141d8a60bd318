"""Where the tasks part: trees as partitions of the tasks, layer by layer, and as the choices that name them.

A tree is one partition of the tasks per encoder layer; partitions refine downwards, since tasks that parted never meet again.
As choices it is told task by task: ``branch.TASK.layers`` is how many layers the task shares with an earlier one, and
``branch.TASK.with`` with which. Any number of tasks has its trees; of two tasks one choice tells all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.arch import Option
from nas.core.errors import ArchError, nearest
from nas.core.space import Aliases, Choice
from nas.core.types import Codes

Partition = tuple[tuple[str, ...], ...]  # blocks of tasks
Leaders = NDArray[np.intp]  # (n, layers, tasks): index of the first task of the block that a task is in


def branching_choices(tasks: Sequence[str], layers: int) -> tuple[list[Choice], list[Aliases]]:
    """Return the choices that name every tree of an encoder, and the rule that gives each of them one name.

    Args:
        tasks: Names, in the job's order.
        layers: Of the encoder.
    """
    depths = tuple(range(layers, -1, -1))  # the more is shared, the smaller the network
    choices: list[Choice] = []
    for index, task in enumerate(tasks[1:], 1):
        choices.append(Choice(f"branch.{task}.layers", depths))
        if index > 1:
            choices.append(Choice(f"branch.{task}.with", tuple(tasks[:index]), (f"branch.{task}.layers", depths[:-1])))
    if len(tasks) < 3:
        return choices, []

    def resolve(codes: Codes) -> Codes:
        codes, rows = codes.copy(), np.arange(len(codes))
        shared, partner = np.zeros((2, len(codes), len(tasks)), dtype=np.int16)
        shared[:, 1] = layers - codes[:, 0]
        for task in range(2, len(tasks)):
            shared[:, task] = layers - codes[:, 2 * task - 3]
            own = codes[:, 2 * task - 2].copy()
            for _ in range(task - 1):  # a partner that follows another task as far as this does not lead: that one may
                follows = (own > 0) & (shared[rows, own] >= shared[:, task])
                own[follows] = partner[rows, own][follows]
            codes[:, 2 * task - 2] = partner[:, task] = own
        return codes

    return choices, [Aliases(tuple(choice.name for choice in choices), resolve)]


def leaders(archs: Sequence[Mapping[str, Option]], tasks: Sequence[str], layers: int) -> Leaders:
    """Return which task leads the block that each task is in, shape (n, layers, tasks): the block's first one."""
    shared = np.zeros((len(archs), len(tasks)), dtype=np.intp)
    partner = np.zeros_like(shared)
    index = {task: i for i, task in enumerate(tasks)}
    for i, task in enumerate(tasks[1:], 1):
        shared[:, i] = [arch[f"branch.{task}.layers"] for arch in archs]
        if i > 1:
            partner[:, i] = [index[str(arch.get(f"branch.{task}.with", tasks[0]))] for arch in archs]
    own = np.broadcast_to(np.arange(len(tasks)), (len(archs), layers, len(tasks))).copy()
    rows = np.arange(len(archs))
    for i in range(1, len(tasks)):
        followed = own[rows[:, None], np.arange(layers), partner[:, i, None]]  # (n, layers)
        own[:, :, i] = np.where(np.arange(layers) < shared[:, i, None], followed, i)
    return own


def tree(picks: Mapping[str, Option], tasks: Sequence[str], layers: int) -> tuple[Partition, ...]:
    """Return the partition of the tasks in each layer of one architecture: blocks, and tasks in them, in the job's order."""
    return tuple(partition(row, tasks) for row in leaders([picks], tasks, layers)[0].tolist())


def partition(labels: Sequence[object], tasks: Sequence[str]) -> Partition:
    """Return the partition whose blocks are the tasks of equal labels."""
    blocks: dict[object, list[str]] = {}
    for label, task in zip(labels, tasks, strict=True):
        blocks.setdefault(label, []).append(task)
    return tuple(tuple(block) for block in blocks.values())


def meet(left: Partition, right: Partition) -> Partition:
    """Return the coarsest partition that refines both; blocks in the order of `left`'s tasks."""
    where = {task: i for i, block in enumerate(right) for task in block}
    pieces = [(i, where[task], task) for i, block in enumerate(left) for task in block]
    return partition([piece[:2] for piece in pieces], [piece[2] for piece in pieces])


def set_partitions(tasks: Sequence[str]) -> list[Partition]:
    """Return every partition of the tasks: one for no or one task, then 2, 5, 15, 52 (the Bell numbers)."""
    labels: list[tuple[int, ...]] = [()]
    for _ in tasks:  # restricted growth: a new label is at most one more than those before it
        labels = [(*head, label) for head in labels for label in range(max(head, default=-1) + 2)]
    return [partition(row, tasks) for row in labels]


def branching_picks(partitions: Sequence[Partition], tasks: Sequence[str]) -> dict[str, Option]:
    """Return the picks that name a tree; a layer that puts together what an earlier one parted leaves it parted.

    Args:
        partitions: One per layer.
        tasks: Names, in the job's order.

    Raises:
        ArchError: A task is in no block of a layer, in two, or is not one of `tasks`; the message names it.
    """
    current: Partition = (tuple(tasks),)
    rows: list[list[int]] = []  # per layer, the leader of each task
    for layer, given in enumerate(partitions):
        _check(given, tasks, layer)
        current = meet(current, given)
        first = {task: tasks.index(min(block, key=tasks.index)) for block in current for task in block}
        rows.append([first[task] for task in tasks])
    picks: dict[str, Option] = {}
    for index, task in enumerate(tasks[1:], 1):
        shared = sum(row[index] != index for row in rows)
        picks[f"branch.{task}.layers"] = shared
        if index > 1 and shared > 0:
            picks[f"branch.{task}.with"] = tasks[rows[shared - 1][index]]
    return picks


def _check(given: Partition, tasks: Sequence[str], layer: int) -> None:
    members = [task for block in given for task in block]
    for task in members:
        if task not in tasks:
            raise ArchError(f"a partition has the tasks of the job: {task!r} in layer {layer} is none; {nearest(task, tasks)}")
    for task in tasks:
        if members.count(task) != 1:
            what = "no branch" if task not in members else "several branches"
            raise ArchError(
                f"every task is in one branch of each layer: {task!r} is in {what} of layer {layer}; "
                f"write for example {' | '.join(tasks)} for a branch each"
            )
