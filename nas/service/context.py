"""What every stage of a running job shares."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from nas.core import CancelledError, CurvePoint, Fingerprint, JobId, JobSpec, Stage, StageState, Store
from nas.data import MultiTaskData
from nas.service.executors import Executor
from nas.service.job_data import begin_data
from nas.service.lease import Lease
from nas.service.trust import trusted_spec
from nas.service.workers import searched_definition
from nas.service.workplace import take_workplace
from nas.supernet import SpaceDefinition


class JobContext:
    """The store, the executor and what they are about. The driver makes one; stages read it.

    Args:
        store: Where results go.
        job: Which job.
        executor: Where work runs.
        lease: The driver's right to the job; None where nothing else can touch it.

    Attributes:
        folder: Of the job; what is finished is there.
        workplace: Of this driver's processes.
    """

    def __init__(self, store: Store, job: JobId, executor: Executor, lease: Lease | None = None) -> None:
        self.store, self.job, self.executor = store, job, executor
        self.spec: JobSpec = trusted_spec(store, job)
        self.folder: Path = store.folder(job)
        self.workplace = take_workplace(self.folder)
        self.references: dict[str, tuple[Fingerprint, float]] = {}  # device to what `stages.profile.reference` found
        self._lease = lease
        self._stopped = threading.Event()
        self._lock = threading.Lock()

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
        """Raise where the work has to end; whatever waits calls this often.

        Raises:
            LostLeaseError: Another driver has taken the job over.
            CancelledError: The user has cancelled the job, or another stage has failed.
            ClusterLostError: What runs the workers is gone.
        """
        if self._lease:
            self._lease.check()
        if self._stopped.is_set():
            raise CancelledError(f"the stages of job {self.job} were stopped")
        self.executor.check()

    def stop(self) -> None:
        """Make every stage's next `check` raise."""
        self._stopped.set()

    def close(self) -> None:
        """Drop the workplace, once nothing in it is needed any more."""
        shutil.rmtree(self.workplace, ignore_errors=True)

    @cached_property
    def _data(self) -> MultiTaskData:
        return begin_data(self.store, self.job)

    def _define(self, data: MultiTaskData) -> SpaceDefinition:
        if not hasattr(self, "_definition"):
            self._definition = searched_definition(self.spec, data)
        return self._definition
