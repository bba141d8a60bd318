"""The tables. Values are made of these rows in `nas.store.encoding`; the schema is versioned in `nas.store.migrations`.

Mappings and tuples are JSON text that any parser reads (`nas.store.encoding.dump`); every float, NaN and infinities included,
comes back as it was on both dialects.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Dialect, Double, ForeignKey, Index, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine


class _Moment(sqlite.DATETIME):
    """A moment as SQLite keeps it, in text. Text that is none is handed on as it is: one damaged row hides no other."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return what turns a stored value into a moment."""
        parse = super().result_processor(dialect, coltype)
        assert parse is not None, "SQLite keeps text"

        def read(value: Any) -> Any:
            try:
                return parse(value)
            except (TypeError, ValueError):
                return value

        return read


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC; SQLite, which has no time zones, keeps it as UTC without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return what the database keeps it as."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_Moment())  # type: ignore[no-untyped-call]
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into UTC."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware moment in UTC."""
        if not isinstance(value, datetime):
            return value
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The base of every table."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text, float: Double, datetime: UtcDateTime}


def _job() -> Mapped[str]:
    return mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))


def _job_key() -> Mapped[str]:
    return mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


class JobRow(Base):
    """A job; `number` counts them in the order in which they were created."""

    __tablename__ = "jobs"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str]
    name: Mapped[str]
    spec: Mapped[str]  # JSON
    state: Mapped[str]
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    owner: Mapped[str | None]  # names one driver; every write of it compares this
    heartbeat: Mapped[datetime | None]
    error: Mapped[str | None]
    __table_args__ = (UniqueConstraint("id", name="uq_jobs_id"),)


class StageRow(Base):
    """A stage of a job."""

    __tablename__ = "stages"
    job_id: Mapped[str] = _job_key()
    stage: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    state: Mapped[str]
    done: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)
    unit: Mapped[str]
    note: Mapped[str]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    result: Mapped[str]  # JSON


class EventRow(Base):
    """A line of a job's log."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = _job()
    time: Mapped[datetime]
    level: Mapped[str]
    message: Mapped[str]
    __table_args__ = (Index("ix_events_job_id", "job_id"),)


class CurveRow(Base):
    """A point of a curve over training."""

    __tablename__ = "curve_points"
    job_id: Mapped[str] = _job_key()
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[float | None]  # NULL is NaN, which SQLite cannot hold


class ArchitectureRow(Base):
    """An architecture, shared by all jobs."""

    __tablename__ = "architectures"
    key: Mapped[str] = mapped_column(primary_key=True)
    picks: Mapped[str]  # canonical JSON


class EvaluationRow(Base):
    """Metrics of an architecture in a job."""

    __tablename__ = "evaluations"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = _job()
    arch_key: Mapped[str] = mapped_column(ForeignKey("architectures.key"))
    names: Mapped[str]  # hash of the metrics' names
    source: Mapped[str]
    stage: Mapped[str]
    split: Mapped[str]
    device: Mapped[str]  # empty where there is none: NULLs would not be equal
    metrics: Mapped[str]  # JSON
    std: Mapped[str]  # JSON
    checkpoint: Mapped[str | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    failure: Mapped[str]
    made: Mapped[datetime | None]
    seconds: Mapped[str | None]  # JSON
    __table_args__ = (
        UniqueConstraint("job_id", "arch_key", "names", "source", "stage", "split", "device", name="uq_evaluations"),
    )


class FingerprintRow(Base):
    """What latencies were measured on."""

    __tablename__ = "fingerprints"
    key: Mapped[str] = mapped_column(primary_key=True)
    cpu: Mapped[str]
    cores: Mapped[int]
    onnxruntime: Mapped[str]
    provider: Mapped[str]
    threads: Mapped[int]


class DeviceRow(Base):
    """The reference network's latency on a device, one for each fingerprint it was seen with."""

    __tablename__ = "devices"
    name: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    reference_ms: Mapped[float]


class ProfileRow(Base):
    """The measured cost of an architecture on a device."""

    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = _job()
    arch_key: Mapped[str] = mapped_column(ForeignKey("architectures.key"))
    device: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(ForeignKey("fingerprints.key"))
    latency: Mapped[str]  # JSON
    metrics: Mapped[str]  # JSON
    operators: Mapped[str | None]  # JSON; NULL where they were not timed
    __table_args__ = (UniqueConstraint("job_id", "arch_key", "device", name="uq_profiles"),)


class PredictorRow(Base):
    """A fitted predictor and its held-out error."""

    __tablename__ = "predictors"
    job_id: Mapped[str] = _job_key()
    target: Mapped[str] = mapped_column(primary_key=True)
    report: Mapped[str]  # JSON
    state: Mapped[str]  # JSON


class ArtifactRow(Base):
    """A file that belongs to a job."""

    __tablename__ = "artifacts"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = _job()
    kind: Mapped[str]
    path: Mapped[str]
    sha256: Mapped[str]
    key: Mapped[str | None]
    info: Mapped[str]  # JSON
    __table_args__ = (UniqueConstraint("job_id", "path", name="uq_artifacts"),)
