"""Whether targets hold what their kind promises, and if not, how they are probably stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nas.core import DataError, Task
from nas.core.task import NO_CLASS_BYTE

LENGTH_OFF = 0.05  # of a unit vector: half precision, and components of eight bits
ZERO = 1e-3  # a vector shorter than this is none
MOST = 0.9  # of the vectors have length 1 once decoded: then that is how they are stored
CHUNK = 64  # images at a time, which bounds the memory
ENCODINGS: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("(n + 1) / 2", "2 * n - 1", lambda n: 2 * n - 1),
    ("(n + 1) * 127.5", "n / 127.5 - 1", lambda n: n / 127.5 - 1),
)


def check_values(name: str, task: Task, splits: Mapping[str, Tensor]) -> None:
    """Check the values of a task's targets, whose types and shapes are right. Called once, when data is loaded.

    Args:
        name: Of the data set.
        task: Whose targets they are.
        splits: Name of a split to its targets, as `MultiTaskData` describes them; the training images come first.

    Raises:
        DataError: The rule of the kind, what was found, and the encoding that is likely.
    """
    if task.kind == "segmentation" and task.outputs == 2:
        _check_mask(name, task, splits)
    check = {"depth": _check_depth, "normals": _check_normals}.get(task.kind)
    for split, target in splits.items() if check else ():
        for start in range(0, len(target), CHUNK):
            check(f"{name}.{split}.{task.name}", target[start : start + CHUNK])  # type: ignore[misc]


def check_classes(where: str, task: Task, target: Tensor) -> None:
    """Raise a `DataError` where a target holds a number that is neither a class nor the one that is ignored."""
    bad = target[((target < 0) | (target >= task.outputs)) & (target != task.ignored)]
    if not len(bad):
        return
    found = sorted(set(bad.tolist()))[:5]
    remedy = "number the classes from 0, or give the task more outputs"
    if found == [task.outputs] and not bool((target == 0).any()):
        remedy = "these count from 1: write them less 1"
    elif set(found) <= {-1, NO_CLASS_BYTE}:
        remedy = f"write {task.ignored} where there is no class"
    raise DataError(f"classes are 0 to {task.outputs - 1}, or {task.ignored} to be ignored: {where} holds {found}; {remedy}")


def _check_mask(name: str, task: Task, splits: Mapping[str, Tensor]) -> None:
    """Refuse a mask of 0 and 255, of which 255 would be ignored and the background alone be learned."""
    train = next(iter(splits.values()))
    for split, target in splits.items():
        as_picture = bool((target == NO_CLASS_BYTE).any()) and not bool((target == 1).any())
        if as_picture and (target is train or not bool((train == NO_CLASS_BYTE).any())):
            raise DataError(
                f"a mask has classes 0 and 1, and {NO_CLASS_BYTE} where nobody knows: {name}.{split}.{task.name} holds "
                f"{NO_CLASS_BYTE} and no 1, as pictures store masks; write mask // {NO_CLASS_BYTE}"
            )


def _check_depth(where: str, target: Tensor) -> None:
    rule, remedy = f"a depth is zero or more, and finite: {where} holds", "write 0 where there is none"
    finite = torch.isfinite(target)
    if not bool(finite.all()):
        raise DataError(f"{rule} {float(target[~finite][0])}; {remedy}")
    if float(target.min()) < 0:
        if float(target.max()) <= 0:
            remedy = "the axis points backwards: turn the sign around"
        raise DataError(f"{rule} {float(target.min()):g}; {remedy}")


def _check_normals(where: str, target: Tensor) -> None:
    vectors = target.float()
    length = vectors.norm(dim=1)
    there = length > ZERO
    wrong = there & ~_is_unit(length)
    if not bool(wrong.any()):
        return
    remedy = "divide each by its length"
    for stored, decode, decoded in ENCODINGS:
        lengths = decoded(vectors).norm(dim=1)[there]
        if bool((_is_unit(lengths) | (lengths < LENGTH_OFF)).float().mean() >= MOST):
            remedy = f"they look like {stored}, as pictures store normals: write {decode}"
    found = float(length[wrong][0])
    raise DataError(f"a normal has length 1, or 0 where there is none: {where} holds one of length {found:.3g}; {remedy}")


def _is_unit(length: Tensor) -> Tensor:
    return (length - 1).abs() <= LENGTH_OFF
