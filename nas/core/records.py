"""What a store hands out besides evaluations: jobs, stages, curves, profiles, predictors, artifacts. All are values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.core.arch import ArchConfig
from nas.core.device import Fingerprint, Latency
from nas.core.job import JobId, JobSpec, JobState, Stage, StageState
from nas.core.operator import OperatorTime


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job and where it stands. Times are UTC and aware.

    Attributes:
        folder: Where its checkpoints, samples and exports are.
        owner: Names the driver, while one runs.
        heartbeat: When the driver was last heard of.
        error: Why it failed, in one sentence.
    """

    id: JobId
    spec: JobSpec
    state: JobState
    created: datetime
    folder: Path
    started: datetime | None = None
    ended: datetime | None = None
    owner: str | None = None
    heartbeat: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StageRecord:
    """How far a stage is.

    Attributes:
        done: Units done, of `total`.
        unit: What is counted: ``steps``, ``subnets``, ``candidates``.
        note: One line of what happens now.
        result: JSON-able facts that later stages and readers need, once done.
    """

    stage: Stage
    state: StageState
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's log."""

    time: datetime
    level: str  # info, warning, error
    message: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One value of a curve over training.

    Attributes:
        name: Such as ``loss.seg`` or ``val.largest.error.seg``.
        step: Optimizer steps done.
    """

    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The measured cost of one subnet on one device.

    Attributes:
        device: Name of the device in the job.
        fingerprint: What was measured on.
        metrics: What was counted: ``macs``, ``params``, ``size_bytes``, ``peak_bytes``.
        operators: What the device's inference engine ran, with times that add up to `latency`; empty where they are not known.
    """

    arch: ArchConfig
    device: str
    fingerprint: Fingerprint
    latency: Latency
    metrics: Mapping[str, float]
    operators: tuple[OperatorTime, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictorReport:
    """A fitted predictor and its error on subnets it was not fitted on.

    Attributes:
        target: The metric it predicts, such as ``latency_ms@local``.
        kind: Name of the predictor.
        rows: Subnets it was fitted on.
        held_out: Subnets its error was measured on.
        quality: ``mape`` (share), ``within_10`` (share within ±10 %), ``kendall_tau``, ``coverage_90``.
        truth: Measured values of the held-out subnets, for plotting.
        predicted: Their predictions.
    """

    target: str
    kind: str
    rows: int
    held_out: int
    quality: Mapping[str, float]
    truth: tuple[float, ...] = ()
    predicted: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that belongs to a job.

    Attributes:
        kind: ``checkpoint``, ``candidate``, ``sample``, ``onnx``, ``card``, ``control``, ``refined``.
        key: Architecture, where it belongs to one.
        path: Absolute.
        sha256: Of the file.
    """

    kind: str
    path: Path
    sha256: str
    key: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
