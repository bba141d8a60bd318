"""Rows to values and back; nothing else in the store knows what is inside a value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from nas.core import (
    ArchConfig,
    Artifact,
    CurvePoint,
    Evaluation,
    Event,
    Fingerprint,
    JobRecord,
    JobSpec,
    JobState,
    Latency,
    PredictorReport,
    Profile,
    Source,
    Stage,
    StageRecord,
    StageState,
)
from nas.core.json_text import number
from nas.core.operator import Operator, OperatorTime
from nas.store import models

Value = TypeVar("Value")
INFINITY = "infinity"  # the only name in the object that stands for one
Row = dict[str, Any]
SILENCE = timedelta(seconds=30)  # a driver that was not heard of for longer is dead
LIVE = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)  # states in which a job has a driver, or is about to


def plain(value: Any) -> Any:
    """Return `value` as JSON-able values: dataclasses and mappings become dicts, tuples and arrays lists, enums their value.

    Raises:
        TypeError: Something that JSON cannot hold.
    """
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else {INFINITY: math.copysign(1, value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"what is stored is made of JSON values: got {value!r} of type {type(value).__name__}")


def dump(value: Any) -> str:
    """Return the JSON text of `value`, which any parser reads: NaN is null, an infinity an object of its sign."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def read(text: str) -> Any:
    """Return plain values from what `dump` wrote, or an earlier version, which wrote NaN and Infinity as Python does."""
    return json.loads(text, object_hook=lambda found: math.inf * found[INFINITY] if INFINITY in found else found)


def _numbers(text: str) -> dict[str, float]:
    return {name: number(value) for name, value in read(text).items()}


def load(kind: type[Value], text: str) -> Value:
    """Return the value of type `kind` whose JSON text is `text`."""
    return cast(Value, _shape(kind, read(text)))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _shape(kind: Any, data: Any) -> Any:
    """Return plain `data` as a value of the annotated type `kind`. A field that the data lacks takes its default."""
    if dataclasses.is_dataclass(kind):
        hints = _hints(cast(type, kind))
        known = {field.name for field in dataclasses.fields(kind)}
        return cast(Any, kind)(**{name: _shape(hints[name], item) for name, item in data.items() if name in known})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if data is None else _shape(next(a for a in arguments if a is not types.NoneType), data)
    if origin is tuple:
        return tuple(_shape(arguments[0], item) for item in data)
    if origin in (dict, Mapping):
        return {name: _shape(arguments[1], item) for name, item in data.items()}
    if kind is float:
        return number(data)
    if kind is Path or (isinstance(kind, type) and issubclass(kind, Enum)):
        return kind(data)
    return data


def readable(text: str) -> str:
    """Return text that every database takes: NUL and unpaired surrogates are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def names_key(metrics: Mapping[str, float]) -> str:
    """Return what tells two sets of metric names apart."""
    return hashlib.sha256(json.dumps(sorted(metrics)).encode()).hexdigest()[:16]


def job_row(job: str, spec: JobSpec, created: datetime) -> models.JobRow:
    """Return the row of a queued job."""
    return models.JobRow(id=job, name=readable(spec.name), spec=dump(spec), state=JobState.QUEUED.value, created=created)


def job_record(row: models.JobRow, folder: Path, now: datetime) -> JobRecord:
    """Return a job as readers see it: one that has not ended and was not heard of for 30 seconds has lost its driver."""
    state, heard = JobState(row.state), row.heartbeat or row.started or row.created
    if state in LIVE and now - heard > SILENCE:
        state = JobState.CANCELLED if state is JobState.CANCELLING else JobState.INTERRUPTED
    return JobRecord(
        id=row.id,
        spec=load(JobSpec, row.spec),
        state=state,
        created=row.created,
        folder=folder,
        started=row.started,
        ended=row.ended,
        owner=row.owner,
        heartbeat=row.heartbeat,
        error=row.error,
    )


def stage_rows(job: str, spec: JobSpec) -> list[models.StageRow]:
    """Return the waiting stages of a job: all, but twins, profile, fit and sensitivity only where they are asked for."""
    asked = {Stage.TWINS: spec.training.twins, Stage.SENSITIVITY: spec.quantization.search}
    asked |= dict.fromkeys((Stage.PROFILE, Stage.FIT), spec.predicts_latency)
    wanted = [stage for stage in Stage if asked.get(stage, True)]
    blank: Row = {"state": StageState.WAITING.value, "done": 0, "total": 0, "unit": "", "note": "", "result": "{}"}
    return [models.StageRow(job_id=job, stage=stage.value, position=i, **blank) for i, stage in enumerate(wanted)]


def stage_record(row: models.StageRow) -> StageRecord:
    """Return a stage."""
    return StageRecord(
        stage=Stage(row.stage),
        state=StageState(row.state),
        done=row.done,
        total=row.total,
        unit=row.unit,
        note=row.note,
        started=row.started,
        ended=row.ended,
        result=read(row.result),
    )


def event(row: models.EventRow) -> Event:
    """Return a line of the log."""
    return Event(row.time, row.level, row.message)


def curve_row(job: str, point: CurvePoint) -> Row:
    """Return the columns of a point of a curve."""
    value = float(point.value)
    return {"job_id": job, "name": point.name, "step": int(point.step), "value": None if math.isnan(value) else value}


def curve_value(value: float | None) -> float:
    """Return the value of a stored point."""
    return math.nan if value is None else value


def arch_row(arch: ArchConfig) -> Row:
    """Return the columns of an architecture."""
    return {"key": arch.key, "picks": arch.to_json()}


def evaluation_row(job: str, value: Evaluation) -> Row:
    """Return the columns of an evaluation."""
    return {
        "job_id": job,
        "arch_key": value.arch.key,
        "names": names_key(value.metrics),
        "source": value.source.value,
        "stage": value.stage,
        "split": value.split,
        "device": value.device or "",
        "metrics": dump({name: float(number) for name, number in value.metrics.items()}),
        "std": dump({name: float(number) for name, number in value.std.items()}),
        "checkpoint": value.checkpoint,
        "seed": value.seed,
        "failure": readable(value.failure),
        "made": value.made,
        "seconds": dump({name: float(number) for name, number in value.seconds.items()}) if value.seconds else None,
    }


def evaluation(row: models.EvaluationRow, picks: str) -> Evaluation:
    """Return an evaluation from its row and the canonical JSON of its architecture."""
    return Evaluation(
        arch=ArchConfig.from_json(picks),
        metrics=_numbers(row.metrics),
        source=Source(row.source),
        stage=row.stage,
        split=row.split,
        device=row.device or None,
        checkpoint=row.checkpoint,
        seed=row.seed,
        std=_numbers(row.std),
        failure=row.failure,
        made=row.made,
        seconds=_numbers(row.seconds) if row.seconds else {},
    )


def fingerprint_row(value: Fingerprint) -> Row:
    """Return the columns of a fingerprint."""
    return {"key": value.key, **plain(value)}


def profile_row(job: str, value: Profile) -> Row:
    """Return the columns of a profile."""
    return {
        "job_id": job,
        "arch_key": value.arch.key,
        "device": value.device,
        "fingerprint": value.fingerprint.key,
        "latency": dump(value.latency),
        "metrics": dump({name: float(number) for name, number in value.metrics.items()}),
        "operators": _operator_rows(value.operators),
    }


def profile(row: models.ProfileRow, picks: str, made_on: models.FingerprintRow) -> Profile:
    """Return a profile from its row, the canonical JSON of its architecture and its fingerprint."""
    fingerprint = Fingerprint(made_on.cpu, made_on.cores, made_on.onnxruntime, made_on.provider, made_on.threads)
    latency, metrics = load(Latency, row.latency), _numbers(row.metrics)
    return Profile(ArchConfig.from_json(picks), row.device, fingerprint, latency, metrics, _operators(row.operators))


def _operator_rows(operators: Sequence[OperatorTime]) -> str | None:
    """Return one list per operator, without the names of the fields: a network has a hundred."""
    rows = [[t.operator.name, t.operator.kind, t.operator.dtype, *_shapes(t.operator), t.ms] for t in operators]
    return dump(rows) if rows else None


def _shapes(op: Operator) -> list[list[int]]:
    return [list(op.input), list(op.other), list(op.output)]


def _operators(text: str | None) -> tuple[OperatorTime, ...]:
    rows = read(text) if text else []
    return tuple(
        OperatorTime(Operator(name, kind, dtype, tuple(input), tuple(other), tuple(output)), ms)
        for name, kind, dtype, input, other, output, ms in rows
    )


def predictor_row(job: str, report: PredictorReport, state: Mapping[str, Any]) -> Row:
    """Return the columns of a predictor."""
    return {"job_id": job, "target": report.target, "report": dump(report), "state": dump(state)}


def predictor(row: models.PredictorRow) -> tuple[PredictorReport, dict[str, Any]]:
    """Return a predictor's report and state."""
    return load(PredictorReport, row.report), read(row.state)


def artifact_row(job: str, value: Artifact) -> Row:
    """Return the columns of an artifact."""
    return {
        "job_id": job,
        "kind": value.kind,
        "path": str(value.path),
        "sha256": value.sha256,
        "key": value.key,
        "info": dump(value.info),
    }


def artifact(row: models.ArtifactRow) -> Artifact:
    """Return an artifact."""
    return Artifact(row.kind, Path(row.path), row.sha256, row.key, read(row.info))
