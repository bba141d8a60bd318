"""The table of data sets, and how a job's data is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from nas.core import DataError, DataSpec, Task, TaskSpec, nearest
from nas.core.unforeseen import one_line
from nas.data.cifar100 import Cifar100
from nas.data.dataset import MultiTaskData, Split
from nas.data.digits import Digits
from nas.data.nyuv2 import NYUv2
from nas.data.python import PREFIX, call_function, declared_function
from nas.data.scenes import Scenes
from nas.data.source import DataSource
from nas.data.values import check_values

SOURCES: dict[str, DataSource] = {
    "scenes": Scenes(),
    "nyuv2": NYUv2(),
    "digits": Digits(),
    "cifar100_mtl": Cifar100(),
}


def load_data(spec: DataSpec, tasks: Sequence[TaskSpec], seed: int) -> MultiTaskData:
    """Load the tasks a job asks for, in the order and with the weights it gives.

    Args:
        spec: Which data. `val_fraction` of its training images, drawn by `seed`, become `val`; where it is 0, `val` is
            the test split. A user's own loader that fills `val` itself keeps it.
        tasks: At least one.
        seed: Of the job. It decides which images are held out, and nothing else.

    Raises:
        DataError: Unknown data, a missing or malformed file, a task the data lacks, an option or fraction that is not
            allowed, or a user's loader that fails.
    """
    if not 0 <= spec.val_fraction < 1:
        raise DataError(f"val_fraction is at least 0 and below 1: got {spec.val_fraction}; 0.15 is usual")
    if spec.name.startswith(PREFIX):
        data = call_function(spec)
        chosen = _choose(spec, data.tasks, tasks)
    else:
        source = _source(spec.name)
        with _reading(spec):
            chosen = _choose(spec, source.tasks(spec), tasks)
            data = source.load(spec, chosen)
    train, val, test = (_only(split, chosen) for split in (data.train, data.val, data.test))
    splits = {"train": train, "val": val, "test": test}
    for task in chosen:
        check_values(data.name, task, {label: split.targets[task.name] for label, split in splits.items()})
    if len(val) == 0:
        train, val = _hold_out(train, test, spec.val_fraction, seed)
    return MultiTaskData(data.name, chosen, data.input, train, val, test)


def known_tasks(spec: DataSpec) -> tuple[Task, ...] | None:
    """Return the tasks a data set offers, reading no large array; None where only loading can tell (a user's own).

    Raises:
        DataError: Unknown data, a missing file, a path where there is no file, an option that is not allowed, or a function
            that is not there; it is looked for and not imported.
    """
    if spec.name.startswith(PREFIX):
        allowed = declared_function(spec.name)
        if spec.path is not None and allowed is not None and "path" not in allowed:
            raise DataError(f"data {spec.name!r} takes no path, and one was given: {spec.path}; remove `path`")
        return None
    source = _source(spec.name)
    with _reading(spec):
        return source.tasks(spec)


def known_shape(spec: DataSpec) -> tuple[int, int, int] | None:
    """Return channels, height and width of a data set's images; None where only loading can tell (a user's own).

    Raises:
        DataError: Unknown data, a missing file, or an option that is not allowed.
    """
    if spec.name.startswith(PREFIX):
        return None
    source = _source(spec.name)
    with _reading(spec):
        return source.shape(spec)


def data_options(name: str) -> tuple[str, ...] | None:
    """Return the options that a data set's loader takes; None where it takes any.

    Raises:
        DataError: Unknown data, or a user's function that is not there; it is not imported.
    """
    if name.startswith(PREFIX):
        return declared_function(name)
    return tuple(_source(name).options)


def _source(name: str) -> DataSource:
    if name not in SOURCES:
        raise DataError(f"there is no data {name!r}; {nearest(name, [*SOURCES, f'{PREFIX}package.module:function'])}")
    return SOURCES[name]


@contextmanager
def _reading(spec: DataSpec) -> Iterator[None]:
    """Turn whatever a damaged file makes a source raise into a sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"a data set is as docs/data.md describes it: {spec.name!r} at {spec.path} cannot be read "
            f"({type(error).__name__}: {one_line(error)}); fetch or make it again"
        ) from error


def _choose(spec: DataSpec, offered: Sequence[Task], asked: Sequence[TaskSpec]) -> tuple[Task, ...]:
    """Return the tasks in the order asked, with the weights asked."""
    by_name = {task.name: task for task in offered}
    for task in asked:
        if task.name not in by_name:
            raise DataError(f"data {spec.name!r} has no task {task.name!r}; {nearest(task.name, by_name)}")
    return tuple(replace(by_name[task.name], weight=task.weight) for task in asked)


def _only(split: Split, tasks: Sequence[Task]) -> Split:
    return replace(split, targets={task.name: split.targets[task.name] for task in tasks})


def _hold_out(train: Split, test: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return (train, val): at least one image is held out, and at least one stays."""
    if fraction == 0:
        return train, test
    count = min(max(round(len(train) * fraction), 1), len(train) - 1)
    if count == 0:
        raise DataError(f"validating needs at least 2 training images: there is {len(train)}; set val_fraction to 0")
    order = np.random.default_rng(seed).permutation(len(train))
    return train.subset(np.sort(order[count:])), train.subset(np.sort(order[:count]))
