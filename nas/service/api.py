"""What is asked of jobs: make, run, submit, cancel, export, profile. The command line and notebooks call these."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from hw_profiles.devices import job_device
from nas.core import (
    ArchConfig,
    JobId,
    JobSpec,
    JobState,
    NasError,
    NotFoundError,
    Objective,
    UserError,
    front,
    nearest,
    recommend,
)
from nas.core.refinement import verified
from nas.search import to_optuna
from nas.service.driver import run
from nas.service.exporting import export_arch
from nas.service.idle import idle_options
from nas.service.job_data import job_data, stored_data
from nas.service.jobchecks import check_own
from nas.service.jobfile import read_job
from nas.service.lease import is_driven, taken
from nas.service.reuse import REUSED, adopt
from nas.service.stages.search import SEARCH
from nas.service.trust import remember, trusted_spec
from nas.service.workers import FileWorker, ProfileWorker, job_definition
from nas.store import SqlStore
from nas.store.answers import reason_of
from nas.supernet import SpaceDefinition

__all__ = [
    "cancel",
    "create",
    "demo_spec",
    "export",
    "profile",
    "profile_job",
    "resume_in_background",
    "run",
    "submit",
    "write_optuna",
]


def create(store: SqlStore, spec: JobSpec) -> JobId:
    """Store a job of this user's to be run and return its id; what it brings along is imported, and may run from now on.

    The job's log says which of its options change nothing.

    Raises:
        UserError: What it brings along cannot be imported, or it reuses the supernet of a job that does not exist, is not
            trained, or is of another kind.
    """
    adopted = adopt(store, spec)
    check_own(spec)
    remember(spec)
    job = store.create_job(adopted)
    for sentence in idle_options(spec):
        store.log(job, sentence, "warning")
    return job


def submit(store: SqlStore, spec: JobSpec) -> JobId:
    """Store a job, start its driver in the background, and return its id."""
    job = create(store, spec)
    resume_in_background(store, job)
    return job


def resume_in_background(store: SqlStore, job: JobId) -> None:
    """Start a driver that outlives this process, and return when it has taken the job.

    What it prints is in ``driver.log`` in the job's folder.

    Raises:
        UserError: The job is done, another driver runs it, or it brings along code that may not run.
        NasError: The driver ended before it had the job; the job has failed, and its error is the log's last line.
    """
    trusted_spec(store, job)
    record = store.job(job)
    if is_driven(record):
        raise taken(record)
    if not store.set_state(job, JobState.QUEUED, expected=set(JobState) - {JobState.DONE}):
        raise UserError(f"a job that is not done can go on: {job} is done; nas pareto {job} prints its front")
    path = store.folder(job) / "driver.log"
    with path.open("ab") as output:
        before = output.tell()
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "nas.service.background", job],  # -P: no module of the folder stands in for ours
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "NAS_STORE": store.url},  # not an argument: a URL may hold a password
        )
    while store.job(job).owner in (None, record.owner):
        if driver.poll() is not None:
            said = path.read_bytes()[before:].decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit code {driver.returncode}"
            if store.set_state(job, JobState.FAILED, f"the driver ended at once: {why}", expected=[JobState.QUEUED]):
                raise NasError(f"the driver of job {job} ended at once: {why}; see {path}")
            return  # it had the job, and is done with it; or another driver was faster
        time.sleep(0.05)
    threading.Thread(target=driver.wait, daemon=True).start()  # or a caller that lives on would keep the dead one's number


def cancel(store: SqlStore, job: JobId) -> None:
    """Ask a job's driver to stop, or mark the job as cancelled where it has none.

    Raises:
        UserError: The job has ended.
    """
    record = store.job(job)
    ended = (JobState.DONE, JobState.CANCELLED)
    if is_driven(record):
        expected: set[JobState] = {JobState.QUEUED, JobState.RUNNING}
        moved = store.set_state(job, JobState.CANCELLING, expected=expected)
    else:
        moved = record.state not in ended and store.set_state(job, JobState.CANCELLED, expected=set(JobState) - set(ended))
    if not moved:  # or it ended meanwhile
        raise UserError(f"a job that runs or waits can be cancelled: {job} is {store.job(job).state}")


def export(
    store: SqlStore,
    job: JobId,
    *,
    key: str | None,
    limits: Sequence[Objective],
    preference: Mapping[str, float] | None,
    out: Path | None,
) -> Path:
    """Export one verified point as a checked ONNX file, with its card beside it, and return the file's path.

    Args:
        store: Holds the job.
        job: Its id.
        key: Key, or its start, of a verified architecture; None picks from the front.
        limits: Bounds the pick keeps.
        preference: Task to weight; None means all alike that were measured.
        out: A file ending in ``.onnx``, or a folder; None means the job's folder.

    Raises:
        UserError: Nothing was verified, no point fits, or the key is not known.
        ExportError: A check failed; no file is left.
    """
    spec = store.job(job).spec
    rows = [row for row in verified(store.evaluations(job)) if not row.failure]
    if not rows:
        raise UserError(f"an export needs a verified front: job {job} is {store.job(job).state}; let it finish first")
    if key is not None:
        found = [row for row in rows if row.arch.key.startswith(key)]
        if len(found) != 1:
            what = "is no verified architecture" if not found else "fits several"
            raise NotFoundError(f"{key!r} {what} of job {job}; {nearest(key, [row.arch.key for row in rows])}")
        chosen = found[0]
    else:
        cost = f"latency_ms@{job_device(spec, spec.devices[0]).name}"
        chosen = recommend(front(rows, spec.objectives), limits, preference, cost)
    return export_arch(store, job, chosen, out)


def profile(spec: JobSpec, arch: str = "largest", device: str | None = None) -> dict[str, Any]:
    """Measure what an architecture of a job that was not run costs: ``largest``, ``smallest`` or canonical JSON.

    Raises:
        NotFoundError: `arch` is none of them.
        DeviceError: There is no such device.
    """
    return _profile(spec, arch, device, {})


def profile_job(store: SqlStore, job: JobId, arch: str = "largest", device: str | None = None) -> dict[str, Any]:
    """Measure what an architecture that a job knows costs: ``largest``, ``smallest`` or a key.

    Raises:
        NotFoundError: `arch` is none of them.
        DeviceError: There is no such device.
    """
    known = {row.arch.key: row.arch for row in store.evaluations(job)} | {row.arch.key: row.arch for row in store.profiles(job)}
    return _profile(trusted_spec(store, job), arch, device, known)


def write_optuna(store: SqlStore, job: JobId, storage_url: str) -> str:
    """Write a job's search into an Optuna storage and return the study's name.

    Args:
        store: Holds the job.
        job: Its id.
        storage_url: What Optuna takes, such as ``sqlite:///study.db``, or the path of a SQLite file.

    Raises:
        UserError: The storage cannot be opened.
    """
    spec = trusted_spec(store, job)
    space = job_definition(spec, stored_data(store, job)).space
    rows = [*store.evaluations(job, REUSED), *store.evaluations(job, SEARCH)]
    path = None if "://" in storage_url else Path(storage_url).expanduser().absolute()
    try:
        return to_optuna(space, spec.objectives, rows, f"sqlite:///{path}" if path else storage_url, f"{spec.name}-{job}")
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        raise UserError(
            f"an Optuna storage is a path or an URL such as sqlite:///study.db, and its folder or server is there: this cannot "
            f"be opened ({reason_of(error)}); name another --storage"
        ) from error


def demo_spec() -> JobSpec:
    """Return the job that ``nas demo`` runs."""
    return read_job(resources.files("nas.cli").joinpath("templates/demo.yaml").read_text(encoding="utf-8"))


def _profile(spec: JobSpec, arch: str, device: str | None, known: Mapping[str, ArchConfig]) -> dict[str, Any]:
    definition = job_definition(spec, job_data(spec))
    picked = _find(definition, arch, known)
    name = device or spec.devices[0]
    target = job_device(spec, name)
    worker, name = ProfileWorker(target), target.name
    worker.use_reference(worker.calibrate()[1])
    content, counted = FileWorker(spec, None).file(picked)
    latency = worker.measure(content, thorough=False)
    return {
        "key": picked.key,
        **counted,
        f"latency_ms@{name}": latency.ms,
        "wall_p50_ms": latency.wall_p50_ms,
        "wall_p95_ms": latency.wall_p95_ms,
        "spread": latency.spread,
        "noisy": latency.noisy,
    }


def _find(definition: SpaceDefinition, arch: str, known: Mapping[str, ArchConfig]) -> ArchConfig:
    named = {"largest": definition.space.largest(), "smallest": definition.space.smallest(), **known}
    found = [value for key, value in named.items() if key.startswith(arch)]
    if len(found) != 1:
        raise NotFoundError(f"an architecture is largest, smallest or a known key: {arch!r} is none; {nearest(arch, named)}")
    return found[0]
