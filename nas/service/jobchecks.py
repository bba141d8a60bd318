"""What a well-formed job must also keep: ranges, and names that exist. Objectives have a file of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nas.core import ArchError, DataSpec, Device, InputSpec, JobSpec, SearchSpace, Task, nearest
from nas.core.importing import PREFIX
from nas.service.objectivechecks import check_objectives
from nas.service.yaml_lines import Document, dotted
from nas.service.yaml_lines import Path as Place

NOT_IN_NAMES = "@=<>,"  # of tasks: they mean something in limits and preferences
WITH_REUSE = ("reuse", "twins", "device")  # keys of `training` that mean something where nothing is trained
LEAST_SUBNETS = 3  # to profile: a predictor's held-out error can be told from no fewer
_TINY = 1e-9  # the smallest value of what must be more than zero

# Inclusive bounds. The upper ones are far beyond any use: they catch a slip of the keyboard.
_RANGES: dict[Place, tuple[float, float]] = {
    ("seed",): (0, 2**32 - 1),
    ("data", "val_fraction"): (0, 0.9),
    ("training", "epochs"): (1, 100_000),
    ("training", "batch_size"): (1, 65_536),
    ("training", "learning_rate"): (_TINY, 100),
    ("training", "weight_decay"): (0, 100),
    ("training", "subnets"): (1, 64),
    ("training", "distillation"): (0, 1),
    ("training", "encoder_distillation"): (0, 1e6),
    ("training", "workers"): (1, 1024),
    ("training", "twin_epochs"): (1, 100_000),
    ("search", "evaluations"): (1, 1_000_000),
    ("search", "batch_size"): (1, 65_536),
    ("search", "workers"): (1, 1024),
    ("search", "profile_samples"): (LEAST_SUBNETS, 100_000),
    ("search", "calibration_images"): (1, 1_000_000),
    ("search", "verify"): (1, 100_000),
    ("search", "screening"): (0.01, 0.99),
    ("search", "differentiable", "epochs"): (1, 100_000),
    ("search", "differentiable", "learning_rate"): (_TINY, 100),
    ("quantization", "calibration_images"): (1, 65_536),
    ("quantization", "max_loss"): (0, 1e6),
}


def check(spec: JobSpec, document: Document, folder: Path) -> JobSpec:
    """Return `spec` with absolute paths and every objective's direction filled in.

    Args:
        spec: Well-formed: the types are right.
        document: The file it was read from.
        folder: What relative paths in it start from.

    Raises:
        JobFileError: The first rule that it breaks.
    """
    if not spec.name.strip() or len(spec.name) > 100 or not spec.name.isprintable():
        raise document.error(
            ("name",), f"a name has 1 to 100 characters in one line: got {spec.name[:40]!r}; write such a name"
        )
    _ranges(spec, document)
    _reuse(spec, document)
    if not spec.tasks:
        raise document.error(("tasks",), "a job has at least one task: got none; add a line such as - seg")
    _unique([task.name for task in spec.tasks], "tasks", document)
    _task_names(spec, document)
    spec = dataclasses.replace(spec, data=_data(spec, folder))
    tasks = _tasks(spec, document)
    _space(spec, tasks, document)
    devices = _devices(spec, document, folder)
    names = tuple(device.name for device in devices)
    return check_objectives(dataclasses.replace(spec, devices=names, targets=devices), names, tasks, document)


def _ranges(spec: JobSpec, document: Document) -> None:
    for path, (low, high) in _RANGES.items():
        value: Any = spec
        for step in path:
            value = getattr(value, str(step))
        if value is not None:
            _within(value, low, high, path, document)
    for i, task in enumerate(spec.tasks):
        _within(task.weight, 0, 1e6, ("tasks", i, "weight"), document)
    for i, strength in enumerate(spec.search.differentiable.strengths):
        _within(strength, 0, 1e6, ("search", "differentiable", "strengths", i), document)


def _reuse(spec: JobSpec, document: Document) -> None:
    """Raise where a supernet is reused and yet trained in a way of its own."""
    for key in document.get(("training",)) or () if spec.training.reuse is not None else ():
        if key not in WITH_REUSE:
            raise document.error(
                ("training", key),
                f"a supernet that is reused was trained as its own job says: training.{key} cannot be given beside "
                f"training.reuse; remove it, or train anew without training.reuse",
            )


def _task_names(spec: JobSpec, document: Document) -> None:
    """Raise for a name that a limit, a preference or a folder cannot hold."""
    for i, task in enumerate(spec.tasks):
        name = task.name
        bad = set(name) & set(NOT_IN_NAMES) or not name.isprintable() or name != name.strip() or not 1 <= len(name) <= 100
        if bad or {".", ".."} & set(name.split("/")) or name.startswith("/"):
            raise document.error(
                ("tasks", i),
                f"a task's name has 1 to 100 characters, none of {' '.join(NOT_IN_NAMES)}, and is no path upwards: got "
                f"{name!r}; give the task another name in the data",
            )


def _within(value: float, low: float, high: float, path: Place, document: Document) -> None:
    if not low <= value <= high:
        near = min(max(value, low), high)
        raise document.error(
            path, f"{dotted(path)} is from {low:.12g} to {high:.12g}: got {value:.12g}; the nearest valid value is {near:.12g}"
        )


def _unique(names: Sequence[str], key: str, document: Document) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise document.error((key, i), f"{key} are named once: {name!r} comes twice; remove one")


def _data(spec: JobSpec, folder: Path) -> DataSpec:
    if spec.data.path is None:
        return spec.data
    return dataclasses.replace(spec.data, path=str((folder / Path(spec.data.path).expanduser()).resolve()))


def _tasks(spec: JobSpec, document: Document) -> tuple[Task, ...] | None:
    """Return the job's tasks as the data describes them; None where only loading a user's own data would tell."""
    from nas.data import data_options, known_tasks

    with document.at(("data", "name")):
        options = data_options(spec.data.name)
    _known_options(spec.data.options, options, "data", document)
    with document.at(("data", "options" if spec.data.path is None else "path")):
        known = known_tasks(spec.data)
    if known is None:
        return None
    by_name = {task.name: task for task in known}
    for i, task in enumerate(spec.tasks):
        if task.name not in by_name:
            raise document.error(
                ("tasks", i), f"data {spec.data.name!r} has no task {task.name!r}; {nearest(task.name, by_name)}"
            )
    return tuple(dataclasses.replace(by_name[task.name], weight=task.weight) for task in spec.tasks)


def _space(spec: JobSpec, tasks: Sequence[Task] | None, document: Document) -> None:
    """Raise where the space or its options are not known, or it cannot be made of them."""
    from nas.data import known_shape
    from search_spaces import make_space, space_options

    with document.at(("space", "name")):
        options = space_options(spec.space.name)
    _known_options(spec.space.options, options, "space", document)
    if spec.space.name.startswith(PREFIX):
        return  # a check imports nothing; `check_own` does once the job is the user's to run
    # Where only loading the data tells kinds and shape, stand-ins do: no option depends on them.
    shape = known_shape(spec.data) or (3, 64, 64)
    input = InputSpec(*shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])
    stand_ins = [Task(task.name, "classification", 2) for task in spec.tasks]
    with document.at(("space", "options")):
        try:
            definition = make_space(spec.space.name, spec.space.options, tasks or stand_ins, input)
            if tasks:
                check_enough(definition.space)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArchError(
                f"space {spec.space.name!r} cannot be made of these options: {error}; mend or remove them"
            ) from None
    _branching(spec, definition, document)


def check_enough(space: SearchSpace) -> None:
    """Raise where a space has too few architectures to be searched, as options that mean the same count once.

    Raises:
        ArchError: How many there are.
    """
    count = len(list(islice(space.enumerate(), LEAST_SUBNETS)))
    if count < LEAST_SUBNETS:
        raise ArchError(
            f"a search chooses among at least {LEAST_SUBNETS} architectures: these options of space {space.name!r} give "
            f"{count}; add a width, depth or resolution that makes another network"
        )


def check_own(spec: JobSpec) -> None:
    """Import what a job brings along and check what only that tells. The job is about to run as whoever calls this.

    Raises:
        UserError: The module of the data or of the space cannot be imported, or the space cannot be made of its options.
    """
    from nas.data import find_function
    from search_spaces import make_space

    if spec.data.name.startswith(PREFIX):
        find_function(spec.data.name)
    if spec.space.name.startswith(PREFIX):
        input = InputSpec(3, 64, 64, (0.0,) * 3, (1.0,) * 3)
        definition = make_space(spec.space.name, spec.space.options, [Task("task", "classification", 2)], input)
        _branching(spec, definition, Document({}, {}))


def _branching(spec: JobSpec, definition: object, document: Document) -> None:
    """Raise where trees of tasks are to be searched by relaxation, and that cannot be."""
    from nas.supernet import Branching
    from nas.train.sharing_cost import MOST_TASKS

    if spec.search.sampler != "differentiable":
        return
    if not isinstance(definition, Branching):
        why = f"in space {spec.space.name!r} they do not; write space: {{name: branched}}, or search.sampler: predictor"
    elif not 2 <= len(spec.tasks) <= MOST_TASKS:
        why = f"it takes 2 to {MOST_TASKS} of them, got {len(spec.tasks)}; change tasks, or write search.sampler: predictor"
    else:
        why = ""
    if why:
        raise document.error(("search", "sampler"), f"the sampler differentiable searches for where tasks part: {why}")
    strengths = spec.search.differentiable.strengths
    if not strengths or len(set(strengths)) < len(strengths):
        raise document.error(
            ("search", "differentiable", "strengths"),
            f"a differentiable search has at least one strength, and each once: got {list(strengths)}; "
            "write for example [0, 0.1]",
        )


def _known_options(given: Mapping[str, Any], allowed: Sequence[str] | None, part: str, document: Document) -> None:
    for option in given:
        if allowed is not None and option not in allowed:
            raise document.error((part, "options", option), f"{part}.options has no key {option!r}; {nearest(option, allowed)}")


def _devices(spec: JobSpec, document: Document, folder: Path) -> tuple[Device, ...]:
    """Return the devices that names and paths name, as their files have them now."""
    from hw_profiles.devices import load_device

    if not spec.devices:
        raise document.error(("devices",), "a job has at least one device: got none; add a line such as - local")
    loaded = []
    for i, name in enumerate(spec.devices):
        if name.endswith((".yaml", ".yml")):
            name = str((folder / Path(name).expanduser()).resolve())
        with document.at(("devices", i)):
            loaded.append(load_device(name))
    _unique([device.name for device in loaded], "devices", document)
    return tuple(loaded)
