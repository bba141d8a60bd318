"""The data of a job: loaded once, when the job begins, then read from the job's folder by every stage, worker and command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nas.core import Artifact, DataError, JobId, JobSpec, Store
from nas.data import MultiTaskData, check_same, digests, keep, load_data, open_kept
from nas.data.python import PREFIX
from nas.service.trust import trusted_spec
from nas.train.checkpoint import sha256

FILE = "data.safetensors"
KIND = "data"  # of the artifact, whose info is the digest of every tensor


def job_data(spec: JobSpec, folder: Path | None = None) -> MultiTaskData:
    """Return the data of a job.

    Args:
        spec: The job.
        folder: Of the job. Where its data is kept there, this is what is returned; else it is loaded.
    """
    if folder is not None and (folder / FILE).is_file():
        return open_kept(folder / FILE)[0]
    return load_data(spec.data, spec.tasks, spec.seed)


def begin_data(store: Store, job: JobId) -> MultiTaskData:
    """Return the data of a job whose driver begins or goes on, kept for whoever comes later. Other processes read what is kept.

    A driver that goes on, and a job that reuses the supernet of another one, load the data and compare it with what it was. A
    user's own loader is called twice at the beginning: one that draws its splits without a seed is then told before anything is
    trained.

    Raises:
        DataError: The data cannot be loaded, or is not what it was.
    """
    spec, path = trusted_spec(store, job), store.folder(job) / FILE
    loaded = load_data(spec.data, spec.tasks, spec.seed)
    found = digests(loaded)
    former = spec.training.reuse
    if before := _recorded(store, job):
        check_same(found, before, "when the job began")
    elif former and (theirs := _recorded(store, former)):
        check_same(found, theirs, f"in job {former}, whose supernet is reused")
    elif spec.data.name.startswith(PREFIX):
        check_same(digests(load_data(spec.data, spec.tasks, spec.seed)), found, "when it was called before")
    if not before or not path.is_file():
        if not (former and _shared(store.folder(former) / FILE, path, found)):
            keep(loaded, path)
        store.add_artifact(job, Artifact(KIND, path, sha256(path), info=found))
    return open_kept(path)[0]


def stored_data(store: Store, job: JobId) -> MultiTaskData:
    """Return the data of a job that a command asks about; where what was kept is gone, it is loaded and compared.

    Raises:
        DataError: The data cannot be loaded, or is not what it was when the job began.
    """
    spec, folder = trusted_spec(store, job), store.folder(job)
    data = job_data(spec, folder)
    if not (folder / FILE).is_file() and (before := _recorded(store, job)):
        check_same(digests(data), before, "when the job began")
    return data


def _recorded(store: Store, job: JobId) -> dict[str, str]:
    """Return the digests of a job's data; empty where it has not begun, or began before they were recorded."""
    for artifact in store.artifacts(job, KIND):
        return {str(name): str(digest) for name, digest in artifact.info.items()}
    return {}


def _shared(theirs: Path, own: Path, found: dict[str, str]) -> bool:
    """Put another job's kept data in place where it is the same, as a second name of one file where that can be."""
    try:
        if open_kept(theirs)[1] != found:
            return False
        own.unlink(missing_ok=True)
        try:
            os.link(theirs, own)
        except OSError:  # another file system
            shutil.copyfile(theirs, own)
    except (OSError, DataError):
        return False
    return True
