"""The right to drive a job, renewed by a heart that beats from the first second until the driver is done."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from nas.core import CancelledError, JobId, JobRecord, JobState, LeasedStore, LostLeaseError, NasError, Store, UserError
from nas.service import owner

HEARTBEAT_S = 3.0
log = logging.getLogger(__name__)


@dataclass
class Lease:
    """A job that this process drives.

    Attributes:
        store: As the driver writes to it.
        job: Its id.
        token: Names this driver in the names of files.
    """

    store: LeasedStore
    job: JobId
    token: str
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _lost: LostLeaseError | None = None

    def check(self) -> None:
        """Raise where this driver has to end.

        Raises:
            LostLeaseError: Another driver has taken the job over.
            CancelledError: The user has cancelled the job.
        """
        if self._lost:
            raise self._lost
        if self._cancelled.is_set():
            raise CancelledError(f"job {self.job} was cancelled; nas resume {self.job} goes on where it stood")

    def beat(self) -> None:
        """Renew the lease until it ends or is lost, and take note of a cancellation."""
        while not self._over.wait(HEARTBEAT_S):
            try:
                if self.store.heartbeat() in (JobState.CANCELLING, JobState.CANCELLED):
                    self._cancelled.set()
            except LostLeaseError as error:
                self._lost = error
                return
            except NasError:  # the next beat tries again; if the store stays away, the stages find out
                log.warning("the heartbeat of job %s could not be written", self.job, exc_info=True)

    def end(self) -> None:
        """Stop the heart."""
        self._over.set()


@contextlib.contextmanager
def leased(store: Store, job: JobId) -> Iterator[Lease]:
    """Make this process the job's driver.

    Between machines the store decides, by the time since a driver was last heard of. A driver of this machine whose process
    is gone does not count, however short a time ago it was heard of.

    Raises:
        UserError: Another driver runs the job.
    """
    me = owner.new_owner()
    former = store.job(job).owner
    mine = store.claim(job, me, instead_of=former if former and owner.is_dead(former) else None)
    if mine is None:
        raise taken(store.job(job))
    lease = Lease(mine, job, me.rpartition("/")[2])
    heart = threading.Thread(target=lease.beat, name="nas-heartbeat", daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        lease.end()
        heart.join(timeout=10)
        try:
            mine.release()
        except NasError:  # the store is away: the lease ends by itself
            log.warning("the claim of job %s could not be released", job, exc_info=True)


def is_driven(job: JobRecord) -> bool:
    """Return whether a job has a driver that may still live."""
    live = job.state in (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
    return live and job.owner is not None and not owner.is_dead(job.owner)


def taken(job: JobRecord) -> UserError:
    """Return the error of whoever wants to drive a job that has a driver."""
    return UserError(
        f"one driver runs a job: {job.id} is being run by {owner.readable(job.owner or 'another process')}; "
        f"wait for it or cancel it with nas cancel {job.id}"
    )
