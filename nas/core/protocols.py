"""The seams between floors. Each protocol says who calls it, when, and what must hold; `tests/contracts` checks them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nas.core.arch import ArchConfig
from nas.core.evaluation import Evaluation
from nas.core.job import JobId, JobSpec, JobState, Stage
from nas.core.records import Artifact, CurvePoint, Event, JobRecord, PredictorReport, Profile, StageRecord
from nas.core.types import FloatArray


class Searcher(Protocol):
    """Proposes architectures and learns from what was measured.

    Called by the search stage: `tell` with everything the store holds (once, on a resumed job), then `ask` and `tell` in
    turn. Two searchers with one seed and one history propose the same.
    """

    def ask(self, count: int) -> list[ArchConfig]:
        """Return at most `count` distinct architectures that were never proposed or told before.

        Fewer come back only when the space is exhausted.
        """
        ...

    def tell(self, done: Sequence[Evaluation]) -> None:
        """Learn from evaluations, in any order, of architectures proposed here or elsewhere.

        A failed evaluation or one with a NaN is never proposed again and teaches nothing else.
        """
        ...


class Predictor(Protocol):
    """Features in, mean and standard deviation out. `fit` before `predict`; a second `fit` forgets the first."""

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to features of shape (n, d) and finite targets of shape (n,), n >= 2."""
        ...

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, each of shape (n,), for features of shape (n, d)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what was fitted as JSON-able values."""
        ...


class Store(Protocol):
    """Values in, values out; never a row object. Only a job's driver writes to it; anyone may read at any time.

    Every method is one transaction. Writes are idempotent, so that a stage that was killed can be run again.
    A `job` argument that is not known raises `NotFoundError`. A store that does not answer is asked again for more than a
    minute before that is a `StoreError`. Rows that are damaged are left out of lists; a job or a stage that is damaged is a
    `StoreError`.

    Attributes:
        writable: Whether anything can be stored; a store that is only read answers everything else.
    """

    writable: bool

    def create_job(self, spec: JobSpec) -> JobId:
        """Store a queued job with its waiting stages, make its folder, and return its id (8 letters and digits)."""
        ...

    def jobs(self) -> list[JobRecord]:
        """Return every job, the newest first."""
        ...

    def job(self, job: str) -> JobRecord:
        """Return the job with this id, or the only one whose id starts so, or the newest for ``latest``."""
        ...

    def set_state(
        self, job: JobId, state: JobState, error: str | None = None, expected: Collection[JobState] | None = None
    ) -> bool:
        """Move a job to `state`, and stamp its start and its end.

        Args:
            job: Which.
            state: Where to.
            error: Why it failed.
            expected: States it may be moved from; None means any. The comparison and the move are one.

        Returns:
            Whether the job is in `state` now.
        """
        ...

    def claim(self, job: JobId, owner: str, instead_of: str | None = None) -> LeasedStore | None:
        """Make `owner` the job's driver and return this store as the driver writes to it.

        A job that has ended, or was to end, before it was done is queued again: what it is told from now on is for `owner`.

        Args:
            job: Which.
            owner: Names one driver and no other, however often a process drives the job.
            instead_of: The driver whose claim ends here because it is known to be dead.

        Returns:
            None where another driver holds the job: one that was heard of, by the database's clock, in the last 30 seconds.
        """
        ...

    def start(self, job: JobId, stage: Stage) -> None:
        """Mark a stage as running; one that is done stays done."""
        ...

    def progress(self, job: JobId, stage: Stage, done: int, total: int, unit: str, note: str = "") -> None:
        """Say how far a running stage is."""
        ...

    def finish(self, job: JobId, stage: Stage, result: Mapping[str, Any] | None = None) -> None:
        """Mark a stage as done, with what later stages need to know of it."""
        ...

    def fail(self, job: JobId, stage: Stage, reason: str) -> None:
        """Mark a stage as failed."""
        ...

    def stages(self, job: JobId) -> dict[Stage, StageRecord]:
        """Return every stage of a job, in the order in which they run."""
        ...

    def log(self, job: JobId, message: str, level: str = "info") -> None:
        """Append to the job's log."""
        ...

    def events(self, job: JobId, last: int | None = None) -> list[Event]:
        """Return the job's log, oldest first; the last lines only where `last` says how many."""
        ...

    def add(self, job: JobId, rows: Iterable[Evaluation]) -> int:
        """Add evaluations and return how many were new.

        Idempotent on (job, architecture, names of the metrics, source, stage, split, device): the first one stays.
        """
        ...

    def evaluations(self, job: JobId, stage: str | None = None) -> list[Evaluation]:
        """Return a job's evaluations in the order in which they were added."""
        ...

    def add_curve(self, job: JobId, points: Iterable[CurvePoint]) -> None:
        """Add points of curves; a point with the same name and step is replaced (a resumed run repeats some)."""
        ...

    def curves(self, job: JobId) -> dict[str, list[tuple[int, float]]]:
        """Return each curve as (step, value), by step."""
        ...

    def add_profiles(self, job: JobId, rows: Iterable[Profile]) -> int:
        """Add measured costs and return how many were new; idempotent on (job, architecture, device)."""
        ...

    def profiles(self, job: JobId) -> list[Profile]:
        """Return a job's measured costs in the order in which they were added."""
        ...

    def reference_ms(self, device: str, fingerprint: str, measured: float) -> float:
        """Return the reference network's latency on a device: the stored one, else `measured`, which is stored."""
        ...

    def save_predictor(self, job: JobId, report: PredictorReport, state: Mapping[str, Any]) -> None:
        """Store a predictor (arrays as JSON), replacing the job's former one for this target."""
        ...

    def predictors(self, job: JobId) -> list[tuple[PredictorReport, dict[str, Any]]]:
        """Return a job's predictors with their states, by target."""
        ...

    def add_artifact(self, job: JobId, artifact: Artifact) -> None:
        """Record a file, replacing the record of the same path."""
        ...

    def artifacts(self, job: JobId, kind: str | None = None, key: str | None = None) -> list[Artifact]:
        """Return a job's files, oldest first."""
        ...

    def folder(self, job: JobId) -> Path:
        """Return the job's folder, which exists."""
        ...


class LeasedStore(Store, Protocol):
    """A store as the driver of one job writes to it, until another driver has claimed the job.

    Every write, whatever it writes, renews the lease in the same transaction. Once the lease is lost each of them raises
    `LostLeaseError` and writes nothing. `folder` counts as a write: files are written by whoever holds the lease.
    """

    def heartbeat(self) -> JobState:
        """Renew the lease, and return the job's state, which is how a driver learns that it is cancelled."""
        ...

    def release(self) -> None:
        """Say that the job has no driver any more; nothing where another one has claimed it."""
        ...
