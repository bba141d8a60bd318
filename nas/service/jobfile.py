"""Reading a job file: YAML to a `JobSpec`, or one `JobFileError` that names the line, the value and the nearest valid one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from nas.core import JobFileError, JobSpec, ObjectiveError, nearest, parse_limit
from nas.service import yaml_lines
from nas.service.jobchecks import check
from nas.service.yaml_lines import Document, dotted

# The dataclasses of the core as strict models. The config of the tuple is that of every dataclass within it: a dataclass
# of its own takes none here, and `nas.core` does not know pydantic.
_JOB = TypeAdapter(tuple[JobSpec], config=ConfigDict(extra="forbid", strict=True))

FOUND = "targets"  # of a job, and no key of a job file: what its devices are is found where they are named
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "dataclass_type": "a mapping of names to values",
}


def load_job(path: Path) -> JobSpec:
    """Return the job that a file describes; paths in it are relative to its folder.

    Raises:
        JobFileError: There is no such file, it cannot be read, or it breaks a rule of `read_job`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(yaml_lines.MAX_BYTES + 1)  # no more than it takes to see that it is too long: it may have no end
    except FileNotFoundError:
        raise JobFileError(f"a job file exists: {path} does not; write one with nas init {path}") from None
    except (OSError, ValueError) as error:
        raise JobFileError(f"a job file can be read: {path} cannot ({getattr(error, 'strerror', error)}); check it") from None
    return _read(yaml_lines.decode(raw), path.resolve().parent)


def read_job(source: str | Path) -> JobSpec:
    """Return the job that YAML text, or the file at a path, describes.

    Relative paths in text are relative to the working folder.

    Raises:
        JobFileError: The YAML is broken, a key is unknown, missing or comes twice, a value has the wrong type or is out of
            range, or parts contradict each other or the data, the devices and the search space.
    """
    return load_job(source) if isinstance(source, Path) else _read(source, Path.cwd())


def _read(text: str, folder: Path) -> JobSpec:
    document = yaml_lines.parse(text)
    if document.value is None:
        raise JobFileError("a job file says what to search for: this one is empty; write one with nas init")
    if not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else f"{str(document.value)[:40]!r}"
        raise JobFileError(f"a job file is a mapping of keys to values: this one is {kind}; start with name: my-job", 1)
    if FOUND in document.value:
        allowed = [field.name for field in dataclasses.fields(JobSpec) if field.name != FOUND]
        raise document.error((FOUND,), f"a job file has no key {FOUND!r}; {nearest(FOUND, allowed)}")
    try:
        (spec,) = _JOB.validate_json(json.dumps([_long_form(document)]))
    except ValidationError as error:
        raise _first(error, document) from None
    return check(spec, document, folder)


def _long_form(document: Document) -> dict[str, Any]:
    """Return the job with every task and objective written as a mapping, and without sections that are empty."""
    # A section that is empty has all its lines commented out: the defaults.
    sections = ("space", "data", "training", "search", "quantization")
    job = {key: value for key, value in document.value.items() if value is not None or key not in sections}
    if isinstance(job.get("tasks"), list):
        job["tasks"] = [{"name": task} if isinstance(task, str) else task for task in job["tasks"]]
    if isinstance(job.get("objectives"), list):
        job["objectives"] = [_objective(item, i, document) for i, item in enumerate(job["objectives"])]
    return job


def _objective(item: Any, position: int, document: Document) -> Any:
    if not isinstance(item, str):
        return item
    if not any(sign in item for sign in "<>="):
        return {"metric": item.strip()}
    try:
        limited = parse_limit(item)
    except ObjectiveError as error:
        raise JobFileError(str(error), document.line(("objectives", position))) from None
    return {"metric": limited.metric, "direction": limited.direction, "limit": limited.limit}


def _first(error: ValidationError, document: Document) -> JobFileError:
    """Return the problem that stands first in the file, and say how many more there are."""
    # A key misspelt is both unknown and missing, and what stands under it may not fit: say that it is unknown.
    rank = {"unexpected_keyword_argument": 0}
    details = error.errors(include_url=False)
    details.sort(key=lambda d: (d["type"] == "missing", document.line(d["loc"][1:]) or 0, rank.get(d["type"], 1)))
    problems = [_problem(detail, document) for detail in details]
    line, message = problems[0]
    more = len(problems) - 1
    return JobFileError(message + (f" ({more} more problem{'s' if more > 1 else ''} after this)" if more else ""), line)


def _problem(detail: ErrorDetails, document: Document) -> tuple[int | None, str]:
    path = tuple(detail["loc"][1:])  # without the position in the tuple around the job
    name, kind, line = dotted(path), detail["type"], document.line(path)
    got = f"got {_short(document.get(path))}"
    hint, fields = _annotations(path)
    if kind == "unexpected_keyword_argument":
        parent = dotted(path[:-1]) or "a job file"
        return line, f"{parent} has no key {path[-1]!r}; {nearest(path[-1], fields)}"
    if kind == "missing":
        return (
            line,
            f"{dotted(path[:-1]) or 'a job file'} needs the key {path[-1]!r}: it is missing; add a line {path[-1]}: ...",
        )
    if kind == "literal_error":
        return line, f"{name} is one of a few words: {got}; {nearest(document.get(path), _options(hint))}"
    if kind not in _EXPECTED:
        return line, f"{name or 'a job file'} cannot be read: {detail['msg']}; {got}"
    item = {"tasks": "a task's name, or a mapping with name and weight", "objectives": "such as error.seg, or a mapping"}
    if len(path) == 2 and kind == "dataclass_type":
        return line, f"{name} is {item[str(path[0])]}: {got}; write such a value"
    if kind == "bool_type" and str(document.get(path)).lower() in ("yes", "on", "y", "1"):
        return line, f"{name} is true or false: {got}; write {path[-1]}: true"
    return line, f"{name} is {_EXPECTED[kind]}: {got}; write {_example(path, kind)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _annotations(path: tuple[str | int, ...]) -> tuple[Any, list[str]]:
    """Return the type that stands at `path`, and the names that may stand beside its last step."""
    hint: Any = JobSpec
    fields: list[str] = []
    for step in path:
        if isinstance(step, int):
            hint = get_args(hint)[0]
        elif dataclasses.is_dataclass(hint):
            hints = get_type_hints(hint)
            fields = [name for name in hints if name != FOUND]
            hint = hints.get(step)
    return hint, fields


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _example(path: tuple[str | int, ...], kind: str) -> str:
    """Return a valid line for `path`: the default, where there is one that says something."""
    parent, _ = _annotations(path[:-1]) if len(path) > 1 else (JobSpec, None)
    if dataclasses.is_dataclass(parent):
        defaults: Mapping[str, Any] = {field.name: field.default for field in dataclasses.fields(parent)}
        default = defaults.get(str(path[-1]), dataclasses.MISSING)
        if isinstance(default, int | float | str):
            return f"for example {path[-1]}: {json.dumps(default)}"
    return {"string_type": "a word", "tuple_type": "one item a line, each after a dash"}.get(kind, "such a value")
