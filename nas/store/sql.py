"""`Store` over SQLAlchemy: one transaction a method, values in and values out."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, Engine, or_, select, update

from nas.core import (
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
from nas.core.unforeseen import one_line
from nas.store import encoding
from nas.store.damage import REMEDY, Damages
from nas.store.encoding import SILENCE, readable
from nas.store.models import (
    ArchitectureRow,
    ArtifactRow,
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
from nas.store.transactions import Transactions, insert, insert_architectures, job_row, now, stage_row, unknown_job

ID_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # none that look alike; no l, so that no id begins like "latest"
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED)


class SqlStore(Transactions):
    """The store of `nas.core.Store`; threads may share one, processes open their own by `url`.

    Args:
        engine: On a schema that is up to date, as `nas.store.connection.connect` gives it.
        home: The folder that holds ``jobs/``.
        writable: Whether anything can be stored.

    Attributes:
        damages: What could not be read, and was left out of what was returned.
    """

    def __init__(self, engine: Engine, home: Path, writable: bool = True) -> None:
        super().__init__(engine)
        self._home = home
        self.writable = writable
        self.damages = Damages()

    @property
    def url(self) -> str:
        """What `open_store` takes to open the same store in another process; it holds the password, if there is one."""
        return self.engine.url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self.engine.dispose()

    def create_job(self, spec: JobSpec) -> JobId:
        """See `nas.core.Store`."""
        job = "".join(secrets.choice(ID_LETTERS) for _ in range(8))
        with self.write() as session:
            session.add(encoding.job_row(job, spec, now()))
            session.flush()
            session.add_all(encoding.stage_rows(job, spec))
            session.flush()
            self._make_folder(job)
        return job

    def jobs(self) -> list[JobRecord]:
        """See `nas.core.Store`."""
        with self.read() as session:
            rows = session.scalars(select(JobRow).order_by(JobRow.number.desc()))
            return self.damages.readable("jobs", "", rows, self._record)

    def job(self, job: str) -> JobRecord:
        """See `nas.core.Store`."""
        wanted = job.strip().lower()
        query = select(JobRow).order_by(JobRow.number.desc()).limit(20)
        if wanted != "latest":
            query = query.where(JobRow.id.startswith(wanted, autoescape=True))
        with self.read() as session:
            found = list(session.scalars(query))
            if not found:
                raise NotFoundError("the store holds no job yet; submit one first" if wanted == "latest" else unknown_job(job))
            if wanted != "latest" and len(found) > 1:
                ids = ", ".join(str(row.id) for row in found)
                raise NotFoundError(f"the start of a job's id names one job only: {job!r} fits {ids}; write more of it")
            try:
                return self._record(found[0])
            except Exception as error:
                raise _damaged("jobs", found[0].id, error) from error

    def set_state(self, job: JobId, state: JobState, error: str | None = None) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = job_row(session, job)
            row.state, row.error = state.value, None if error is None else readable(error)
            row.ended = (row.ended or now()) if state in ENDED else None
            if state is JobState.RUNNING:
                row.started = row.started or now()

    def claim(self, job: JobId, owner: str) -> bool:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            moment = now()
            free = or_(JobRow.owner.is_(None), JobRow.owner == owner, JobRow.heartbeat < moment - SILENCE)
            claimed = session.execute(update(JobRow).where(JobRow.id == job, free).values(owner=owner, heartbeat=moment))
            return cast(CursorResult[Any], claimed).rowcount == 1

    def heartbeat(self, job: JobId) -> JobState:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = job_row(session, job)
            row.heartbeat = now()
            return JobState(row.state)

    def release(self, job: JobId) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job).owner = None

    def start(self, job: JobId, stage: Stage) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.started, row.ended, row.note = StageState.RUNNING.value, now(), None, ""

    def progress(self, job: JobId, stage: Stage, done: int, total: int, unit: str, note: str = "") -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.done, row.total, row.unit, row.note = int(done), int(total), unit, readable(note)

    def finish(self, job: JobId, stage: Stage, result: Mapping[str, Any] | None = None) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.done, row.note, row.ended = StageState.DONE.value, row.total, "", now()
                row.started = row.started or row.ended
            if result is not None:
                row.result = encoding.dump(result)

    def fail(self, job: JobId, stage: Stage, reason: str) -> None:
        """See `nas.core.Store`; the reason becomes the stage's note."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            row.state, row.note, row.ended = StageState.FAILED.value, readable(reason), now()

    def stages(self, job: JobId) -> dict[Stage, StageRecord]:
        """See `nas.core.Store`. Twins are a stage only of jobs that train them."""
        with self.read() as session:
            job_row(session, job)
            rows = session.scalars(select(StageRow).where(StageRow.job_id == job).order_by(StageRow.position))
            try:
                return {record.stage: record for record in map(encoding.stage_record, rows)}
            except Exception as error:  # a job without one of its stages would be another job
                raise _damaged("stages", job, error) from error

    def log(self, job: JobId, message: str, level: str = "info") -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            session.add(EventRow(job_id=job, time=now(), level=level, message=readable(message)))

    def events(self, job: JobId, last: int | None = None) -> list[Event]:
        """See `nas.core.Store`."""
        query = select(EventRow).where(EventRow.job_id == job).order_by(EventRow.id.desc()).limit(last)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("events", job, session.scalars(query), encoding.event)[::-1]

    def add(self, job: JobId, rows: Iterable[Evaluation]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self.write() as session:
            job_row(session, job)
            insert_architectures(session, [value.arch for value in values])
            return insert(session, EvaluationRow, [encoding.evaluation_row(job, value) for value in values])

    def evaluations(self, job: JobId, stage: str | None = None) -> list[Evaluation]:
        """See `nas.core.Store`."""
        row = EvaluationRow  # its columns, as objects of ten thousand rows take seconds to make
        columns = (row.metrics, row.source, row.stage, row.split, row.device, row.checkpoint, row.seed, row.std, row.failure)
        query = select(*columns, ArchitectureRow.picks).join(ArchitectureRow, ArchitectureRow.key == EvaluationRow.arch_key)
        query = query.where(EvaluationRow.job_id == job).order_by(EvaluationRow.id)
        if stage is not None:
            query = query.where(EvaluationRow.stage == stage)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("evaluations", job, session.execute(query), encoding.evaluation)

    def add_curve(self, job: JobId, points: Iterable[CurvePoint]) -> None:
        """See `nas.core.Store`."""
        values = [encoding.curve_row(job, point) for point in points]
        with self.write() as session:
            job_row(session, job)
            insert(session, CurveRow, values, replace=("job_id", "name", "step"))

    def curves(self, job: JobId) -> dict[str, list[tuple[int, float]]]:
        """See `nas.core.Store`."""
        query = select(CurveRow.name, CurveRow.step, CurveRow.value).where(CurveRow.job_id == job)
        found: dict[str, list[tuple[int, float]]] = {}
        with self.read() as session:
            job_row(session, job)
            rows = session.execute(query.order_by(CurveRow.name, CurveRow.step))
            for point in self.damages.readable("curve_points", job, rows, encoding.curve_point):
                found.setdefault(point.name, []).append((point.step, point.value))
        return found

    def add_profiles(self, job: JobId, rows: Iterable[Profile]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self.write() as session:
            job_row(session, job)
            insert_architectures(session, [value.arch for value in values])
            made_on = {value.fingerprint.key: encoding.fingerprint_row(value.fingerprint) for value in values}
            insert(session, FingerprintRow, [made_on[key] for key in sorted(made_on)])
            return insert(session, ProfileRow, [encoding.profile_row(job, value) for value in values])

    def profiles(self, job: JobId) -> list[Profile]:
        """See `nas.core.Store`."""
        query = select(ProfileRow, ArchitectureRow.picks, FingerprintRow).where(ProfileRow.job_id == job)
        query = query.join(ArchitectureRow, ArchitectureRow.key == ProfileRow.arch_key)
        query = query.join(FingerprintRow, FingerprintRow.key == ProfileRow.fingerprint).order_by(ProfileRow.id)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("profiles", job, session.execute(query), encoding.profile)

    def reference_ms(self, device: str, fingerprint: str, measured: float) -> float:
        """See `nas.core.Store`."""
        if not self.writable:
            with self.read() as session:
                stored = session.get(DeviceRow, (device, fingerprint))
                return measured if stored is None else stored.reference_ms
        with self.write() as session:
            insert(session, DeviceRow, [{"name": device, "fingerprint": fingerprint, "reference_ms": float(measured)}])
            return session.get_one(DeviceRow, (device, fingerprint)).reference_ms

    def save_predictor(self, job: JobId, report: PredictorReport, state: Mapping[str, Any]) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            insert(session, PredictorRow, [encoding.predictor_row(job, report, state)], replace=("job_id", "target"))

    def predictors(self, job: JobId) -> list[tuple[PredictorReport, dict[str, Any]]]:
        """See `nas.core.Store`."""
        with self.read() as session:
            job_row(session, job)
            rows = session.scalars(select(PredictorRow).where(PredictorRow.job_id == job).order_by(PredictorRow.target))
            return self.damages.readable("predictors", job, rows, encoding.predictor)

    def add_artifact(self, job: JobId, artifact: Artifact) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            insert(session, ArtifactRow, [encoding.artifact_row(job, artifact, self._path(job))], replace=("job_id", "path"))

    def artifacts(self, job: JobId, kind: str | None = None, key: str | None = None) -> list[Artifact]:
        """See `nas.core.Store`."""
        query = select(ArtifactRow).where(ArtifactRow.job_id == job).order_by(ArtifactRow.id)
        if kind is not None:
            query = query.where(ArtifactRow.kind == kind)
        if key is not None:
            query = query.where(ArtifactRow.key == key)
        with self.read() as session:
            job_row(session, job)
            folder = self._path(job)
            return self.damages.readable("artifacts", job, session.scalars(query), lambda row: encoding.artifact(row, folder))

    def folder(self, job: JobId) -> Path:
        """See `nas.core.Store`."""
        with self.read() as session:
            job_row(session, job)
        return self._make_folder(job)

    def _make_folder(self, job: JobId) -> Path:
        folder = self._path(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"a job needs a folder that can be written: {folder} ({error.strerror}); set NAS_HOME") from error
        return folder

    def _path(self, job: JobId) -> Path:
        return self._home / "jobs" / job

    def _record(self, row: JobRow) -> JobRecord:
        return encoding.job_record(row, self._path(str(row.id)), now())


def _damaged(table: str, job: JobId, error: Exception) -> StoreError:
    return StoreError(
        f"the store's table {table} is damaged at job {job}: {one_line(error)}; {REMEDY}; nas jobs lists the others"
    )
