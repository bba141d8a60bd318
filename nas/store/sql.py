"""`Store` over SQLAlchemy: one transaction a method, values in and values out."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from nas.core import (
    Artifact,
    CurvePoint,
    Evaluation,
    Event,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    LostLeaseError,
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
from nas.store.patience import patient
from nas.store.transactions import Transactions, clock, insert, insert_architectures, job_row, now, stage_row, unknown_job

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
        self._create(job, spec)
        return job

    @patient
    def _create(self, job: JobId, spec: JobSpec) -> None:
        """Store a job, unless a call before this one did, whose answer was lost."""
        with self.write() as session:
            if session.scalar(select(JobRow.id).where(JobRow.id == job)):
                return
            session.add(encoding.job_row(job, spec, clock(session)))
            session.flush()
            session.add_all(encoding.stage_rows(job, spec))
            session.flush()
            self._make_folder(job)

    @patient
    def jobs(self) -> list[JobRecord]:
        """See `nas.core.Store`."""
        with self.read() as session:
            moment = clock(session)
            rows = session.scalars(select(JobRow).order_by(JobRow.number.desc()))
            return self.damages.readable("jobs", "", rows, lambda row: self._record(row, moment))

    @patient
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
                return self._record(found[0], clock(session))
            except Exception as error:
                raise _damaged("jobs", found[0].id, error) from error

    @patient
    def set_state(
        self, job: JobId, state: JobState, error: str | None = None, expected: Collection[JobState] | None = None
    ) -> bool:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = job_row(session, job, lock=True)
            if expected is not None and row.state not in {state.value, *(one.value for one in expected)}:
                return False
            row.state, row.error = state.value, None if error is None else readable(error)
            row.ended = (row.ended or now()) if state in ENDED else None
            if state is JobState.QUEUED:
                row.heartbeat = clock(session)  # its driver is on its way
            if state is JobState.RUNNING:
                row.started = row.started or now()
            return True

    @patient
    def claim(self, job: JobId, owner: str, instead_of: str | None = None) -> LeasedStore | None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = job_row(session, job, lock=True)
            moment = clock(session)
            silent = row.heartbeat is None or moment - row.heartbeat > SILENCE
            if row.owner not in (None, owner, instead_of) and not silent:
                return None
            row.owner, row.heartbeat = owner, moment
            if row.state not in (JobState.RUNNING.value, JobState.DONE.value):
                row.state, row.error, row.ended = JobState.QUEUED.value, None, None
        return LeasedStore(self.engine, self._home, job, owner)

    @patient
    def start(self, job: JobId, stage: Stage) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.started, row.ended, row.note = StageState.RUNNING.value, now(), None, ""

    @patient
    def progress(self, job: JobId, stage: Stage, done: int, total: int, unit: str, note: str = "") -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.done, row.total, row.unit, row.note = int(done), int(total), unit, readable(note)

    @patient
    def finish(self, job: JobId, stage: Stage, result: Mapping[str, Any] | None = None) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            if row.state != StageState.DONE.value:
                row.state, row.done, row.note, row.ended = StageState.DONE.value, row.total, "", now()
                row.started = row.started or row.ended
            if result is not None:
                row.result = encoding.dump(result)

    @patient
    def fail(self, job: JobId, stage: Stage, reason: str) -> None:
        """See `nas.core.Store`; the reason becomes the stage's note."""
        with self.write() as session:
            row = stage_row(session, job, stage)
            row.state, row.note, row.ended = StageState.FAILED.value, readable(reason), now()

    @patient
    def stages(self, job: JobId) -> dict[Stage, StageRecord]:
        """See `nas.core.Store`. Twins are a stage only of jobs that train them."""
        with self.read() as session:
            job_row(session, job)
            rows = session.scalars(select(StageRow).where(StageRow.job_id == job).order_by(StageRow.position))
            try:
                found = {record.stage: record for record in map(encoding.stage_record, rows)}
                if missing := [stage.value for stage in encoding.ALWAYS if stage not in found]:
                    raise ValueError(f"a job has the stages {', '.join(encoding.ALWAYS)}: there is no {missing[0]}")
                return found
            except Exception as error:  # a job without one of its stages would be another job
                raise _damaged("stages", job, error) from error

    def log(self, job: JobId, message: str, level: str = "info") -> None:
        """See `nas.core.Store`."""
        self._log(job, now(), readable(message), level)

    @patient
    def _log(self, job: JobId, moment: datetime, message: str, level: str) -> None:
        """Append a line, unless a call before this one did, whose answer was lost."""
        line = {"job_id": job, "time": moment, "level": level, "message": message}
        with self.write() as session:
            job_row(session, job)
            if not session.scalar(select(EventRow.id).filter_by(**line).limit(1)):
                session.add(EventRow(**line))

    @patient
    def events(self, job: JobId, last: int | None = None) -> list[Event]:
        """See `nas.core.Store`."""
        query = select(EventRow).where(EventRow.job_id == job).order_by(EventRow.id.desc()).limit(last)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("events", job, session.scalars(query), encoding.event)[::-1]

    @patient
    def add(self, job: JobId, rows: Iterable[Evaluation]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self.write() as session:
            job_row(session, job)
            insert_architectures(session, [value.arch for value in values])
            return insert(session, EvaluationRow, [encoding.evaluation_row(job, value) for value in values])

    @patient
    def evaluations(self, job: JobId, stage: str | None = None) -> list[Evaluation]:
        """See `nas.core.Store`."""
        row = EvaluationRow  # its columns, as objects of ten thousand rows take seconds to make
        names = ("metrics", "source", "stage", "split", "device", "checkpoint", "seed", "std", "failure", "made", "seconds")
        columns = [getattr(row, name) for name in names]
        query = select(*columns, ArchitectureRow.picks).join(ArchitectureRow, ArchitectureRow.key == EvaluationRow.arch_key)
        query = query.where(EvaluationRow.job_id == job).order_by(EvaluationRow.id)
        if stage is not None:
            query = query.where(EvaluationRow.stage == stage)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("evaluations", job, session.execute(query), encoding.evaluation)

    @patient
    def add_curve(self, job: JobId, points: Iterable[CurvePoint]) -> None:
        """See `nas.core.Store`."""
        values = [encoding.curve_row(job, point) for point in points]
        with self.write() as session:
            job_row(session, job)
            insert(session, CurveRow, values, replace=("job_id", "name", "step"))

    @patient
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

    @patient
    def add_profiles(self, job: JobId, rows: Iterable[Profile]) -> int:
        """See `nas.core.Store`."""
        values = list(rows)
        with self.write() as session:
            job_row(session, job)
            insert_architectures(session, [value.arch for value in values])
            made_on = {value.fingerprint.key: encoding.fingerprint_row(value.fingerprint) for value in values}
            insert(session, FingerprintRow, [made_on[key] for key in sorted(made_on)])
            return insert(session, ProfileRow, [encoding.profile_row(job, value) for value in values])

    @patient
    def profiles(self, job: JobId) -> list[Profile]:
        """See `nas.core.Store`."""
        query = select(ProfileRow, ArchitectureRow.picks, FingerprintRow).where(ProfileRow.job_id == job)
        query = query.join(ArchitectureRow, ArchitectureRow.key == ProfileRow.arch_key)
        query = query.join(FingerprintRow, FingerprintRow.key == ProfileRow.fingerprint).order_by(ProfileRow.id)
        with self.read() as session:
            job_row(session, job)
            return self.damages.readable("profiles", job, session.execute(query), encoding.profile)

    @patient
    def reference_ms(self, device: str, fingerprint: str, measured: float) -> float:
        """See `nas.core.Store`."""
        if not self.writable:
            with self.read() as session:
                stored = session.get(DeviceRow, (device, fingerprint))
                return measured if stored is None else stored.reference_ms
        with self.write() as session:
            insert(session, DeviceRow, [{"name": device, "fingerprint": fingerprint, "reference_ms": float(measured)}])
            return session.get_one(DeviceRow, (device, fingerprint)).reference_ms

    @patient
    def save_predictor(self, job: JobId, report: PredictorReport, state: Mapping[str, Any]) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            insert(session, PredictorRow, [encoding.predictor_row(job, report, state)], replace=("job_id", "target"))

    @patient
    def predictors(self, job: JobId) -> list[tuple[PredictorReport, dict[str, Any]]]:
        """See `nas.core.Store`."""
        with self.read() as session:
            job_row(session, job)
            rows = session.scalars(select(PredictorRow).where(PredictorRow.job_id == job).order_by(PredictorRow.target))
            return self.damages.readable("predictors", job, rows, encoding.predictor)

    @patient
    def add_artifact(self, job: JobId, artifact: Artifact) -> None:
        """See `nas.core.Store`."""
        with self.write() as session:
            job_row(session, job)
            insert(session, ArtifactRow, [encoding.artifact_row(job, artifact, self._path(job))], replace=("job_id", "path"))

    @patient
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

    @patient
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

    def _record(self, row: JobRow, moment: datetime) -> JobRecord:
        return encoding.job_record(row, self._path(str(row.id)), moment)


def _damaged(table: str, job: JobId, error: Exception) -> StoreError:
    return StoreError(
        f"the store's table {table} is damaged at job {job}: {one_line(error)}; {REMEDY}; nas jobs lists the others"
    )


class LeasedStore(SqlStore):
    """The store of `nas.core.LeasedStore`.

    Args:
        engine: Of the store that was claimed from.
        home: Of that store.
        job: Whose driver writes.
        owner: The driver.
    """

    def __init__(self, engine: Engine, home: Path, job: JobId, owner: str) -> None:
        super().__init__(engine, home)
        self._job, self._owner = job, owner

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose changes are committed only while this driver holds the job.

        Raises:
            LostLeaseError: It does not any more.
        """
        with super().write() as session:
            row = job_row(session, self._job, lock=True)
            if row.owner != self._owner:
                raise LostLeaseError(
                    f"one driver runs a job, and another one has taken {self._job} over: this one was not heard of for "
                    f"{SILENCE.seconds} seconds; it ends, and nas watch {self._job} shows the other"
                )
            row.heartbeat = clock(session)
            session.flush()
            yield session

    @patient
    def heartbeat(self) -> JobState:
        """See `nas.core.LeasedStore`."""
        with self.write() as session:
            return JobState(job_row(session, self._job).state)

    @patient
    def release(self) -> None:
        """See `nas.core.LeasedStore`."""
        with super().write() as session:
            row = job_row(session, self._job, lock=True)
            if row.owner == self._owner:
                row.owner = None

    @patient
    def folder(self, job: JobId) -> Path:
        """See `nas.core.LeasedStore`."""
        with self.write() as session:
            job_row(session, job)
        return self._make_folder(job)
