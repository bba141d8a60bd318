"""What every stage of a running job shares."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from nas.core import CancelledError, CurvePoint, JobId, JobSpec, JobState, Stage, StageState, Store
from nas.data import MultiTaskData
from nas.service.executors import Executor
from nas.service.trust import trusted_spec
from nas.service.workers import job_data, searched_definition
from nas.supernet import SpaceDefinition

HEARTBEAT_S = 3.0
log = logging.getLogger(__name__)


class JobContext:
    """The store, the executor and what they are about. The driver makes one; stages read it.

    Args:
        store: Where results go.
        job: Which job.
        executor: Where work runs.
    """

    def __init__(self, store: Store, job: JobId, executor: Executor) -> None:
        self.store, self.job, self.executor = store, job, executor
        self.spec: JobSpec = trusted_spec(store, job)
        self.folder: Path = store.folder(job)
        self._cancelled = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._heart = threading.Thread(target=self._beat, name="nas-heartbeat", daemon=True)
        self._heart.start()

    @property
    def data(self) -> MultiTaskData:
        """The job's data, loaded once."""
        with self._lock:  # stages run side by side
            return self._data

    @property
    def definition(self) -> SpaceDefinition:
        """What the job searches: its space with its networks, and the blocks' precisions where they are searched."""
        data = self.data
        with self._lock:
            return self._define(data)

    def done(self, stage: Stage) -> bool:
        """Return whether nothing is left of a stage: it was finished, or the job has no such stage."""
        found = self.store.stages(self.job).get(stage)
        return found is None or found.state is StageState.DONE

    def add_curves(self, step: int, curves: Mapping[str, float]) -> None:
        """Store a report's points, unless they are stored: a resumed training repeats its last report."""
        known = self.store.curves(self.job)
        points = [CurvePoint(name, step, value) for name, value in curves.items() if (step, value) not in known.get(name, ())]
        if points:
            self.store.add_curve(self.job, points)

    def check(self) -> None:
        """Raise `CancelledError` where the user has cancelled the job, or another stage has failed."""
        if self._cancelled.is_set():
            raise CancelledError(f"job {self.job} was cancelled; nas resume {self.job} goes on where it stood")

    def stop(self) -> None:
        """Make every stage's next `check` raise."""
        self._cancelled.set()

    def close(self) -> None:
        """End the heartbeat."""
        self._over.set()
        self._heart.join(timeout=10)

    @cached_property
    def _data(self) -> MultiTaskData:
        return job_data(self.spec)

    def _define(self, data: MultiTaskData) -> SpaceDefinition:
        if not hasattr(self, "_definition"):
            self._definition = searched_definition(self.spec, data)
        return self._definition

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                if self.store.heartbeat(self.job) in (JobState.CANCELLING, JobState.CANCELLED):
                    self._cancelled.set()
            except Exception:  # a store that is busy for a moment must not end the job; the next beat tries again
                log.warning("the heartbeat of job %s could not be written", self.job, exc_info=True)
