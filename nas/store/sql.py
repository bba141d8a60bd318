"""`Store` over SQLAlchemy: one transaction a method, values in and values out."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, Engine, Table, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from nas.core import (
    ArchConfig,
    Artifact,
    CurvePoint,
    Evaluation,
    Event,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    NotFoundError,
    PredictorReport,
    Profile,
    Stage,
    StageRecord,
    StageState,
    StoreError,
)
from nas.store import encoding
from nas.store.connection import unanswered
from nas.store.encoding import SILENCE, Row, readable
from nas.store.models import (
    ArchitectureRow,
    ArtifactRow,
    Base,
    CurveRow,
    DeviceRow,
    EvaluationRow,
    EventRow,
    FingerprintRow,
    JobRow,
    PredictorRow,
    ProfileRow,
    StageRow,
)

ID_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # none that look alike; no l, so that no id begins like "latest"
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED)


class SqlStore:
    """The store of `nas.core.Store`; threads may share one, processes open their own by `url`.

    Args:
        engine: On a schema that is up to date, as `nas.store.connection.connect` gives it.
        home: The folder that holds ``jobs/``.
    """

    def __init__(self, engine: Engine, home: Path) -> None:
        self._engine = engine
        self._home = home

    @property
    def url(self) -> str:
        """What `open_store` takes to open the same store in another process; it holds the password, if there is one."""
        return self._engine.url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session:
                yield session
        except OperationalError as error:
            raise unanswered(error) from error

    @contextmanager
    def _write(self) -> Iterator[Session]:
        try:
            with Session(self._engine.execution_options(begin="IMMEDIATE")) as session, session.begin():
                yield session
        except OperationalError as error:
            raise unanswered(error) from error

    def create_job(self, spec: JobSpec) -> JobId:
        """See `nas.core.Store`."""
        job = "".join(secrets.choice(ID_LETTERS) for _ in range(8))
        with self._write() as session:
            session.add(encoding.job_row(job, spec, _now()))
            session.flush()
            session.add_all(encoding.stage_rows(job, spec))
            session.flush()
            self._make_folder(job)
        return job

    def jobs(self) -> list[JobRecord]:
        """See `nas.core.Store`."""
        with self._read() as session:
            return [self._record(row) for row in session.scalars(select(JobRow).order_by(JobRow.number.desc()))]

    def job(self, job: str) -> JobRecord:
        """See `nas.core.Store`."""
        wanted = job.strip().lower()
        query = select(JobRow).order_by(JobRow.number.desc()).limit(20)
        if wanted != "latest":
            query = query.where(JobRow.id.startswith(wanted, autoescape=True))
        with self._read() as session:
            found = list(session.scalars(query))
            if not found:
                raise NotFoundError("the store holds no job yet; submit one first" if wanted == "latest" else _unknown(job))
            if wanted != "latest" and len(found) > 1:
                ids = ", ".join(row.id for row in found)
                raise NotFoundError(f"the start of a job's id names one job only: {job!r} fits {ids}; write more of it")
            return self._record(found[0])

    def set_state(self, job: JobId, state: JobState, error: str | None = None) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            row = _job(session, job)
            row.state, row.error = state.value, None if error is None else readable(error)
            row.ended = (row.ended or _now()) if state in ENDED else None
            if state is JobState.RUNNING:
                row.started = row.started or _now()

    def claim(self, job: JobId, owner: str) -> bool:
        """See `nas.core.Store`."""
        with self._write() as session:
            _job(session, job)
            now = _now()
            free = or_(JobRow.owner.is_(None), JobRow.owner == owner, JobRow.heartbeat < now - SILENCE)
            claimed = session.execute(update(JobRow).where(JobRow.id == job, free).values(owner=owner, heartbeat=now))
            return cast(CursorResult[Any], claimed).rowcount == 1

    def heartbeat(self, job: JobId) -> JobState:
        """See `nas.core.Store`."""
        with self._write() as session:
            row = _job(session, job)
            row.heartbeat = _now()
            return JobState(row.state)

    def release(self, job: JobId) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            _job(session, job).owner = None

    def start(self, job: JobId, stage: Stage) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            row = _stage(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.started, row.ended, row.note = StageState.RUNNING.value, _now(), None, ""

    def progress(self, job: JobId, stage: Stage, done: int, total: int, unit: str, note: str = "") -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            row = _stage(session, job, stage)
            if row.state != StageState.DONE.value:
                row.done, row.total, row.unit, row.note = int(done), int(total), unit, readable(note)

    def finish(self, job: JobId, stage: Stage, result: Mapping[str, Any] | None = None) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            row = _stage(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.done, row.note, row.ended = StageState.DONE.value, row.total, "", _now()
                row.started = row.started or row.ended
            if result is not None:
                row.result = encoding.dump(result)

    def fail(self, job: JobId, stage: Stage, reason: str) -> None:
        """See `nas.core.Store`; the reason becomes the stage's note."""
        with self._write() as session:
            row = _stage(session, job, stage)
            row.state, row.note, row.ended = StageState.FAILED.value, readable(reason), _now()

    def stages(self, job: JobId) -> dict[Stage, StageRecord]:
        """See `nas.core.Store`. Twins are a stage only of jobs that train them."""
        with self._read() as session:
            _job(session, job)
            rows = session.scalars(select(StageRow).where(StageRow.job_id == job).order_by(StageRow.position))
            return {record.stage: record for record in map(encoding.stage_record, rows)}

    def log(self, job: JobId, message: str, level: str = "info") -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            _job(session, job)
            session.add(EventRow(job_id=job, time=_now(), level=level, message=readable(message)))

    def events(self, job: JobId) -> list[Event]:
        """See `nas.core.Store`."""
        with self._read() as session:
            _job(session, job)
            rows = session.scalars(select(EventRow).where(EventRow.job_id == job).order_by(EventRow.id))
            return [encoding.event(row) for row in rows]

    def add(self, job: JobId, rows: Iterable[Evaluation]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self._write() as session:
            _job(session, job)
            self._add_architectures(session, [value.arch for value in values])
            return self._insert(session, EvaluationRow, [encoding.evaluation_row(job, value) for value in values])

    def evaluations(self, job: JobId, stage: str | None = None) -> list[Evaluation]:
        """See `nas.core.Store`."""
        query = select(EvaluationRow, ArchitectureRow.picks).join(
            ArchitectureRow, ArchitectureRow.key == EvaluationRow.arch_key
        )
        query = query.where(EvaluationRow.job_id == job).order_by(EvaluationRow.id)
        if stage is not None:
            query = query.where(EvaluationRow.stage == stage)
        with self._read() as session:
            _job(session, job)
            return [encoding.evaluation(row, picks) for row, picks in session.execute(query).tuples()]

    def add_curve(self, job: JobId, points: Iterable[CurvePoint]) -> None:
        """See `nas.core.Store`."""
        values = [encoding.curve_row(job, point) for point in points]
        with self._write() as session:
            _job(session, job)
            self._insert(session, CurveRow, values, replace=("job_id", "name", "step"))

    def curves(self, job: JobId) -> dict[str, list[tuple[int, float]]]:
        """See `nas.core.Store`."""
        query = select(CurveRow.name, CurveRow.step, CurveRow.value).where(CurveRow.job_id == job)
        found: dict[str, list[tuple[int, float]]] = {}
        with self._read() as session:
            _job(session, job)
            for name, step, value in session.execute(query.order_by(CurveRow.name, CurveRow.step)).tuples():
                found.setdefault(name, []).append((step, encoding.curve_value(value)))
        return found

    def add_profiles(self, job: JobId, rows: Iterable[Profile]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self._write() as session:
            _job(session, job)
            self._add_architectures(session, [value.arch for value in values])
            made_on = {value.fingerprint.key: encoding.fingerprint_row(value.fingerprint) for value in values}
            self._insert(session, FingerprintRow, [made_on[key] for key in sorted(made_on)])
            return self._insert(session, ProfileRow, [encoding.profile_row(job, value) for value in values])

    def profiles(self, job: JobId) -> list[Profile]:
        """See `nas.core.Store`."""
        query = select(ProfileRow, ArchitectureRow.picks, FingerprintRow).where(ProfileRow.job_id == job)
        query = query.join(ArchitectureRow, ArchitectureRow.key == ProfileRow.arch_key)
        query = query.join(FingerprintRow, FingerprintRow.key == ProfileRow.fingerprint).order_by(ProfileRow.id)
        with self._read() as session:
            _job(session, job)
            return [encoding.profile(*found) for found in session.execute(query).tuples()]

    def reference_ms(self, device: str, fingerprint: str, measured: float) -> float:
        """See `nas.core.Store`."""
        with self._write() as session:
            row: Row = {"name": device, "fingerprint": fingerprint, "reference_ms": float(measured)}
            self._insert(session, DeviceRow, [row])
            return session.get_one(DeviceRow, (device, fingerprint)).reference_ms

    def save_predictor(self, job: JobId, report: PredictorReport, state: Mapping[str, Any]) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            _job(session, job)
            self._insert(session, PredictorRow, [encoding.predictor_row(job, report, state)], replace=("job_id", "target"))

    def predictors(self, job: JobId) -> list[tuple[PredictorReport, dict[str, Any]]]:
        """See `nas.core.Store`."""
        with self._read() as session:
            _job(session, job)
            rows = session.scalars(select(PredictorRow).where(PredictorRow.job_id == job).order_by(PredictorRow.target))
            return [encoding.predictor(row) for row in rows]

    def add_artifact(self, job: JobId, artifact: Artifact) -> None:
        """See `nas.core.Store`."""
        with self._write() as session:
            _job(session, job)
            self._insert(session, ArtifactRow, [encoding.artifact_row(job, artifact)], replace=("job_id", "path"))

    def artifacts(self, job: JobId, kind: str | None = None, key: str | None = None) -> list[Artifact]:
        """See `nas.core.Store`."""
        query = select(ArtifactRow).where(ArtifactRow.job_id == job).order_by(ArtifactRow.id)
        if kind is not None:
            query = query.where(ArtifactRow.kind == kind)
        if key is not None:
            query = query.where(ArtifactRow.key == key)
        with self._read() as session:
            _job(session, job)
            return [encoding.artifact(row) for row in session.scalars(query)]

    def folder(self, job: JobId) -> Path:
        """See `nas.core.Store`."""
        with self._read() as session:
            _job(session, job)
        return self._make_folder(job)

    def _make_folder(self, job: JobId) -> Path:
        folder = self._home / "jobs" / job
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"a job needs a folder that can be written: {folder} ({error.strerror}); set NAS_HOME") from error
        return folder

    def _record(self, row: JobRow) -> JobRecord:
        return encoding.job_record(row, self._home / "jobs" / row.id, _now())

    def _add_architectures(self, session: Session, archs: Sequence[ArchConfig]) -> None:
        rows = {arch.key: encoding.arch_row(arch) for arch in archs}
        self._insert(session, ArchitectureRow, [rows[key] for key in sorted(rows)])  # one order for all: no deadlock

    def _insert(self, session: Session, table: type[Base], rows: Sequence[Row], replace: tuple[str, ...] = ()) -> int:
        """Insert rows and return how many were new; one that exists is kept, or replaced where it equals in `replace`."""
        if not rows:
            return 0
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        new = insert(cast(Table, table.__table__))
        if replace:
            changed = {name: new.excluded[name] for name in rows[0] if name not in replace}
            statement = new.on_conflict_do_update(index_elements=replace, set_=changed)
        else:
            statement = new.on_conflict_do_nothing()
        return session.connection().execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def _now() -> datetime:
    return datetime.now(UTC)


def _unknown(job: str) -> str:
    return f"a job is named by its id, the start of it, or latest: {job!r} is none; `nas jobs` lists them"


def _job(session: Session, job: JobId) -> JobRow:
    row = session.scalar(select(JobRow).where(JobRow.id == job))
    if row is None:
        raise NotFoundError(_unknown(job))
    return row


def _stage(session: Session, job: JobId, stage: Stage) -> StageRow:
    _job(session, job)
    row = session.get(StageRow, (job, stage.value))
    if row is None:
        raise NotFoundError(f"job {job} has no stage {stage.value}; twins are trained where training.twins is true")
    return row
