"""Objectives of a job file: that their metrics exist, their directions are right, and their limits can be met."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nas.core import InputSpec, JobSpec, Objective, ObjectiveError, Task, nearest
from nas.core.importing import PREFIX
from nas.core.objective import COST_METRICS
from nas.service.yaml_lines import Document

SHORTEST_MS = 1e-3  # no network answers in a microsecond
BITS = {"int4": 4, "int8": 8, "int8-dynamic": 8, "fp32": 32}  # of a weight
WITHOUT_TWINS = (
    "delta_m compares with networks trained for one task alone, and training.twins is false; "
    "write twins: true under training, or remove delta_m"
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a metric before any network is trained.

    Attributes:
        best: No network does better than this.
    """

    direction: Literal["min", "max"]
    best: float


def check_objectives(spec: JobSpec, devices: Sequence[str], tasks: Sequence[Task] | None, document: Document) -> JobSpec:
    """Return `spec` with the direction of every objective filled in.

    Args:
        spec: Otherwise checked.
        devices: Names of the job's devices.
        tasks: The job's tasks as the data describes them; None where only loading the data would tell.
        document: The file it was read from.

    Raises:
        JobFileError: The first rule that an objective breaks.
    """
    if len(spec.objectives) < 2:
        raise document.error(
            ("objectives",), f"a job has at least two objectives: got {len(spec.objectives)}; add one, such as macs"
        )
    names = [objective.metric for objective in spec.objectives]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise document.error(("objectives", i), f"objectives are named once: {name!r} comes twice; remove one")
    metrics = _metrics([task.name for task in spec.tasks], devices, tasks)
    objectives = tuple(_checked(i, spec, metrics, devices, document) for i in range(len(spec.objectives)))
    _check_costs(objectives, spec, document)
    return dataclasses.replace(spec, objectives=objectives)


def check_measured(spec: JobSpec, tasks: Sequence[Task]) -> None:
    """Check objectives that only loading the data can tell of: those on a user's own data, or of a job made without a file.

    Args:
        spec: Of the job.
        tasks: As the loaded data has them.

    Raises:
        ObjectiveError: Nobody measures an objective, or its direction is wrong.
    """
    from hw_profiles.devices import job_device

    devices = [job_device(spec, name).name for name in spec.devices]
    known = _metrics([task.name for task in tasks], devices, tasks)
    for objective in spec.objectives:
        if objective.metric not in known:
            raise ObjectiveError(_unknown(objective.metric, spec, devices, known))
        if objective.metric == "delta_m" and not spec.training.twins:
            raise ObjectiveError(WITHOUT_TWINS)
        direction = known[objective.metric].direction
        if objective.direction != direction:
            word = "minimised" if direction == "min" else "maximised"
            raise ObjectiveError(f"{objective.metric} is {word}: got direction {objective.direction}; write {direction}")


def _metrics(names: Sequence[str], devices: Sequence[str], tasks: Sequence[Task] | None) -> dict[str, _Known]:
    """Return every metric that the job can have as an objective.

    Where only loading the data tells the tasks' kinds, they may be of any: a metric has one direction in all of them.
    """
    from nas.tasks import KINDS, task_kind

    known = {f"error.{name}": _Known("min", 0.0) for name in names}
    kinds = [(name, list(KINDS.values())) for name in names]
    if tasks is not None:
        kinds = [(task.name, [task_kind(task.kind)]) for task in tasks]
    for name, metric in ((name, metric) for name, able in kinds for kind in able for metric in kind.metrics):
        best = (100.0 if metric.unit == "%" else math.inf) if metric.higher_is_better else 0.0
        known[f"{metric.name}.{name}"] = _Known("max" if metric.higher_is_better else "min", best)
    known["delta_m"] = _Known("max", math.inf)
    known |= {name: _Known("min", 0.0) for name in COST_METRICS if name != "latency_ms"}
    return known | {f"latency_ms@{device}": _Known("min", SHORTEST_MS) for device in devices}


def _checked(
    position: int, spec: JobSpec, metrics: Mapping[str, _Known], devices: Sequence[str], document: Document
) -> Objective:
    objective, place = spec.objectives[position], ("objectives", position)
    name, written = objective.metric, document.get(place)
    has_direction = "direction" in written if isinstance(written, dict) else objective.limit is not None
    if name not in metrics:
        raise document.error(place, _unknown(name, spec, devices, metrics))
    if name == "delta_m" and not spec.training.twins:
        raise document.error(place, WITHOUT_TWINS)
    known = metrics[name]
    sign, word = ("<=", "minimised") if known.direction == "min" else (">=", "maximised")
    if has_direction and objective.direction != known.direction:
        got = written if isinstance(written, str) else f"direction: {objective.direction}"
        rule = f"{name} is {word}, and a limit on it reads {name}{sign}NUMBER"
        raise document.error((*place, "direction"), f"{rule}: got {got}; write direction: {known.direction} or nothing")
    objective = dataclasses.replace(objective, direction=known.direction)
    if objective.violation(known.best) > 0:
        raise document.error((*place, "limit"), _unmet(objective, known.best))
    return objective


def _unknown(name: str, spec: JobSpec, devices: Sequence[str], metrics: Mapping[str, _Known]) -> str:
    base, _, device = name.partition("@")
    if base == "latency_ms":
        given = f"names {device!r}" if device else "names none"
        return f"a latency names a device of the job: {name!r} {given}; {nearest(name, [f'latency_ms@{d}' for d in devices])}"
    tasks, task = [each.name for each in spec.tasks], name.partition(".")[2]
    if task and task not in tasks and spec.data.name.startswith(PREFIX):  # which of the two is misspelt, only the data knows
        return (
            f"an objective is of a task of the job: {name!r} is of {task!r}, and tasks has {', '.join(tasks)}; mend the one "
            "that is misspelt"
        )
    return f"there is no metric {name!r} in this job; {nearest(name, metrics)}"


def _unmet(objective: Objective, best: float) -> str:
    sign = "<=" if objective.direction == "min" else ">="
    return (
        f"a limit can be met by some network: none keeps {objective.metric}{sign}{objective.limit:.12g}; "
        f"the nearest value that can be met is {best:.12g}"
    )


def _check_costs(objectives: Sequence[Objective], spec: JobSpec, document: Document) -> None:
    """Raise where not even the smallest subnet keeps a limit on what can be counted."""
    limited = [(i, o) for i, o in enumerate(objectives) if o.limit is not None and o.metric in COST_METRICS]
    if not limited:
        return
    smallest = _smallest_cost(spec, size=any(objective.metric == "size_bytes" for _, objective in limited))
    if smallest is None:
        return
    for i, objective in limited:
        if objective.violation(smallest[objective.metric]) > 0:
            raise document.error(("objectives", i, "limit"), _unmet(objective, smallest[objective.metric]))


def _smallest_cost(spec: JobSpec, size: bool) -> dict[str, float] | None:
    """Return the cost of the smallest subnet; None where it takes a user's own code, which a check does not run.

    Args:
        spec: The job.
        size: Whether the bytes of its file are asked for, which takes an export; in lower precisions they are at least the
            share that the weights would have.
    """
    import torch

    from hw_profiles.counting import count_cost
    from nas.data import known_shape, known_tasks
    from nas.service.candidates import untrained_file
    from nas.supernet import blocks
    from search_spaces import make_space

    shape, offered = known_shape(spec.data), {task.name: task for task in known_tasks(spec.data) or ()}
    if shape is None or spec.space.name.startswith(PREFIX):
        return None
    tasks = tuple(offered[task.name] for task in spec.tasks)
    input = InputSpec(*shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])  # which count for nothing
    definition = make_space(spec.space.name, spec.space.options, tasks, input)
    with torch.device("meta"):  # shapes are enough
        network = definition.build(definition.space.smallest())
        cost = count_cost(network, input)
    if size:
        content = untrained_file(spec, definition, definition.space.smallest())
        least_bits = BITS["fp32"]
        if spec.quantization.search:
            least_bits = min(BITS[precision] for block in blocks(network) for precision in block.precisions)
        cost["size_bytes"] = float(len(content) * least_bits // BITS["fp32"])
    return cost
