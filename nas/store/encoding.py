"""Rows to values and back; nothing else in the store knows what is inside a value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

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
from nas.core.operator import Operator, OperatorTime
from nas.store import models
from nas.store.checked import INFINITY, load, numbers, of_kind, parsed

Row = dict[str, Any]
ID = re.compile(r"[a-z0-9]{1,64}")  # of a job: its folder is called so
ALWAYS = (Stage.TRAIN, Stage.SEARCH, Stage.VERIFY)  # stages that every job has
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


@lru_cache(maxsize=65_536)
def architecture(picks: str) -> ArchConfig:
    """Return the architecture whose canonical JSON is `picks`; the same one each time, as it is frozen."""
    found = parsed(picks)
    if not isinstance(found, dict) or not all(type(option) in (int, float, str) for option in found.values()):
        raise ValueError(f"an architecture maps choices to options: {picks!r:.60} does not")
    return ArchConfig(found)


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
    """Return a job as readers see it: one that has not ended and was not heard of for 30 seconds has lost its driver.

    Raises:
        ValueError: The row is damaged.
    """
    if not isinstance(row.id, str) or not ID.fullmatch(row.id):
        raise ValueError(f"a job's id is letters and digits: {row.id!r:.60} is not")
    started, ended, heartbeat = (_moment(getattr(row, name), name) for name in ("started", "ended", "heartbeat"))
    created = of_kind(datetime, row.created, "created")
    state, heard = JobState(row.state), heartbeat or started or created
    if state in LIVE and now - heard > SILENCE:
        state = JobState.CANCELLED if state is JobState.CANCELLING else JobState.INTERRUPTED
    spec = load(JobSpec, row.spec)
    if not (spec.tasks and spec.objectives and spec.devices):
        raise ValueError("a job has tasks, objectives and devices, and this one has not")
    return JobRecord(
        id=row.id,
        spec=spec,
        state=state,
        created=created,
        folder=folder,
        started=started,
        ended=ended,
        owner=of_kind(str | None, row.owner, "owner"),
        heartbeat=heartbeat,
        error=of_kind(str | None, row.error, "error"),
    )


def _moment(value: Any, name: str) -> datetime | None:
    return cast("datetime | None", of_kind(datetime | None, value, name))


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
        done=of_kind(int, row.done, "done"),
        total=of_kind(int, row.total, "total"),
        unit=of_kind(str, row.unit, "unit"),
        note=of_kind(str, row.note, "note"),
        started=_moment(row.started, "started"),
        ended=_moment(row.ended, "ended"),
        result=of_kind(dict[str, Any], parsed(row.result), "result"),
    )


def event(row: models.EventRow) -> Event:
    """Return a line of the log."""
    return Event(of_kind(datetime, row.time, "time"), of_kind(str, row.level, "level"), of_kind(str, row.message, "message"))


def curve_row(job: str, point: CurvePoint) -> Row:
    """Return the columns of a point of a curve."""
    value = float(point.value)
    return {"job_id": job, "name": point.name, "step": int(point.step), "value": None if math.isnan(value) else value}


def curve_point(row: Any) -> CurvePoint:
    """Return a point of a curve from the columns of its row."""
    number = math.nan if row.value is None else of_kind(float, row.value, "value")
    return CurvePoint(of_kind(str, row.name, "name"), of_kind(int, row.step, "step"), number)


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


def evaluation(row: Any) -> Evaluation:
    """Return an evaluation from the columns of its row and `picks`, the canonical JSON of its architecture."""
    return Evaluation(
        arch=architecture(row.picks),
        metrics=numbers(row.metrics),
        source=Source(row.source),
        stage=of_kind(str, row.stage, "stage"),
        split=of_kind(str, row.split, "split"),
        device=of_kind(str, row.device, "device") or None,
        checkpoint=of_kind(str | None, row.checkpoint, "checkpoint"),
        seed=of_kind(int, row.seed, "seed"),
        std=numbers(row.std),
        failure=of_kind(str, row.failure, "failure"),
        made=_moment(row.made, "made"),
        seconds=numbers(row.seconds) if row.seconds else {},
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


def profile(row: Sequence[Any]) -> Profile:
    """Return a profile from its row, the canonical JSON of its architecture and its fingerprint."""
    found, picks, made_on = row
    fields = ("cpu", "cores", "onnxruntime", "provider", "threads")
    fingerprint = of_kind(Fingerprint, {name: getattr(made_on, name) for name in fields}, "fingerprint")
    latency, metrics = load(Latency, found.latency), numbers(found.metrics)
    device = of_kind(str, found.device, "device")
    return Profile(architecture(picks), device, fingerprint, latency, metrics, _operators(found.operators))


def _operator_rows(operators: Sequence[OperatorTime]) -> str | None:
    """Return one list per operator, without the names of the fields: a network has a hundred."""
    rows = [[t.operator.name, t.operator.kind, t.operator.dtype, *_shapes(t.operator), t.ms] for t in operators]
    return dump(rows) if rows else None


def _shapes(op: Operator) -> list[list[int]]:
    return [list(op.input), list(op.other), list(op.output)]


def _operators(text: str | None) -> tuple[OperatorTime, ...]:
    rows = [] if text is None else parsed(text)
    return tuple(
        OperatorTime(Operator(name, kind, dtype, tuple(input), tuple(other), tuple(output)), ms)
        for name, kind, dtype, input, other, output, ms in rows
    )


def predictor_row(job: str, report: PredictorReport, state: Mapping[str, Any]) -> Row:
    """Return the columns of a predictor."""
    return {"job_id": job, "target": report.target, "report": dump(report), "state": dump(state)}


def predictor(row: models.PredictorRow) -> tuple[PredictorReport, dict[str, Any]]:
    """Return a predictor's report and state."""
    return load(PredictorReport, row.report), of_kind(dict[str, Any], parsed(row.state), "state")


def artifact_row(job: str, value: Artifact, folder: Path) -> Row:
    """Return the columns of an artifact. A path in the job's folder is kept from there on: the folder may move."""
    inside = value.path.is_relative_to(folder)
    return {
        "job_id": job,
        "kind": value.kind,
        "path": str(value.path.relative_to(folder) if inside else value.path),
        "sha256": value.sha256,
        "key": value.key,
        "info": dump(value.info),
    }


def artifact(row: models.ArtifactRow, folder: Path) -> Artifact:
    """Return an artifact of the job whose folder this is."""
    path, kind, sha256 = (of_kind(str, getattr(row, name), name) for name in ("path", "kind", "sha256"))
    key, info = of_kind(str | None, row.key, "key"), of_kind(dict[str, Any], parsed(row.info), "info")
    return Artifact(kind, _placed(Path(path), folder), sha256, key, info)


def _placed(path: Path, folder: Path) -> Path:
    """Return where a file is; one that an earlier version stored with its full path may have moved with the job's folder."""
    moved = str(path).partition(f"/{folder.parent.name}/{folder.name}/")[2]
    if path.is_absolute() and moved and not path.exists():
        return folder / moved
    return folder / path
