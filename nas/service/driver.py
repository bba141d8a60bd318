"""Runs the stages of one job, each where it stood.

    train ─▶ twins ─┐
                    ├─▶ sensitivity ─▶ search ─▶ verify
    profile ─▶ fit ─┘

The two branches run side by side where the executor can.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from nas.core import CancelledError, ClusterLostError, JobId, JobState, LostLeaseError, Stage, Store, WorkerError
from nas.service import stages
from nas.service.context import JobContext
from nas.service.executors import make_executor
from nas.service.lease import Lease, leased
from nas.service.readiness import check_ready
from nas.service.trust import trusted_spec

Step = tuple[Stage, Callable[[JobContext], None]]
TOGETHER: tuple[tuple[Step, ...], ...] = (
    ((Stage.TRAIN, stages.train), (Stage.TWINS, stages.twins)),
    ((Stage.PROFILE, stages.profile), (Stage.FIT, stages.fit)),
)
AFTER: tuple[Step, ...] = (
    (Stage.SENSITIVITY, stages.sensitivity),
    (Stage.SEARCH, stages.search),
    (Stage.VERIFY, stages.verify),
)


UNFINISHED = tuple(set(JobState) - {JobState.CANCELLED, JobState.DONE})
LOSSES = 5  # of Ray, within an hour, that a job goes on after
ABANDON_S = 60.0  # after which stages that do not notice that Ray is gone are left behind
STOP_S = 10.0  # that stages have to end when the driver is told to


def run(store: Store, job: JobId) -> JobState:
    """Run every stage of a job that is not done, and return how it ended.

    Args:
        store: Holds the job.
        job: Its id.

    Raises:
        UserError: Another driver runs the job, it brings along code that may not run, or a mistake of the user's that shows
            only now.
        CancelledError: The job was cancelled meanwhile; its state says so.
        LostLeaseError: Another driver has taken the job over; nothing more was written.
        NasError: A stage failed; the job's state and error say so.
    """
    trusted_spec(store, job)
    with leased(store, job) as lease:
        return drive(lease)


def drive(lease: Lease) -> JobState:
    """Do what `run` does with a job that is this process's already."""
    store, job = lease.store, lease.job
    with _terminable():
        try:
            if not store.set_state(job, JobState.RUNNING, expected=(JobState.QUEUED, JobState.DONE)):
                raise CancelledError(f"job {job} was cancelled before it began")
            _stages(lease)
        except LostLeaseError:
            raise
        except (CancelledError, KeyboardInterrupt) as error:
            store.set_state(job, JobState.CANCELLED, expected=UNFINISHED)
            store.log(job, "cancelled")
            raise CancelledError(f"job {job} was cancelled; nas resume {job} goes on where it stood") from error
        except SystemExit:
            store.set_state(job, JobState.INTERRUPTED, expected=UNFINISHED)
            store.log(job, "the driver was told to end (SIGTERM)", "warning")
            raise
        except Exception as error:
            message = first_line(error)
            store.set_state(job, JobState.FAILED, message)
            store.log(job, message, "error")
            raise
        store.set_state(job, JobState.DONE)  # also where it was cancelled at the last moment: nothing is left to cancel
        store.log(job, "done")
    return JobState.DONE


def _stages(lease: Lease) -> None:
    """Run the stages; where Ray is lost, start it again and go on."""
    store, job = lease.store, lease.job
    losses: list[float] = []
    while True:
        try:
            executor = make_executor(store.job(job).spec.executor)
            try:
                context = JobContext(store, job, executor, lease)
                check_ready(context)  # which keeps the data, before any worker asks for it
                _together(context, TOGETHER)
                _together(context, [AFTER])
                context.close()
            finally:
                executor.close()
            return
        except ClusterLostError as error:
            losses = [moment for moment in losses if time.monotonic() - moment < 3600] + [time.monotonic()]
            store.log(job, f"{error}; starting again and going on", "warning")
            if len(losses) > LOSSES:
                raise WorkerError(
                    f"a job needs processes that live: Ray died {len(losses)} times within an hour, the last time as {error}; "
                    "see the system's log for who ends them (often too little memory), then resume the job"
                ) from error


def _in_turn(context: JobContext, steps: Sequence[Step]) -> None:
    for stage, function in steps:
        context.check()
        if context.done(stage):  # by a former run, or not part of this job
            continue
        context.store.start(context.job, stage)
        try:
            function(context)
        except (CancelledError, ClusterLostError, LostLeaseError):
            raise
        except Exception as error:
            context.executor.check()  # a cluster that is gone is the cause of whatever a stage met
            context.store.fail(context.job, stage, first_line(error))
            raise


def _together(context: JobContext, branches: Sequence[Sequence[Step]]) -> None:
    """Run branches side by side; where one fails, the others are stopped, and its error is the one raised.

    The branches run in threads that may be left behind: a call into a Ray that is gone need not return.
    """
    if not context.executor.concurrent:
        for branch in branches:
            _in_turn(context, branch)
        return
    failures: list[BaseException] = []

    def guarded(branch: Sequence[Step]) -> None:
        try:
            _in_turn(context, branch)
        except BaseException as error:
            failures.append(error)
            context.stop()

    threads = [threading.Thread(target=guarded, args=(branch,), name="nas-stage", daemon=True) for branch in branches]
    for thread in threads:
        thread.start()
    lost: float | None = None
    try:
        while any(thread.is_alive() for thread in threads):
            threads[0 if threads[0].is_alive() else -1].join(0.5)
            try:
                context.executor.check()
            except ClusterLostError:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > ABANDON_S:
                    raise
    except BaseException:  # Ctrl-C meets the main thread, which is this one
        context.stop()
        for thread in threads:
            thread.join(STOP_S)
        raise
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the driver as an exception does, so that it leaves an honest state and no processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_line(error: BaseException) -> str:
    """Return an error's message, for a line of the store."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
