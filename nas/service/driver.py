"""Runs the stages of one job, each where it stood: ``python -m nas.service.driver JOB`` is the background driver.

    train ─▶ twins ─┐
                    ├─▶ sensitivity ─▶ search ─▶ verify
    profile ─▶ fit ─┘

The two branches run side by side where the executor can.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from nas.core import CancelledError, JobId, JobState, Stage, Store, UserError
from nas.service import stages
from nas.service.context import JobContext
from nas.service.executors import make_executor
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


def run(store: Store, job: JobId) -> JobState:
    """Run every stage of a job that is not done, and return how it ended.

    Args:
        store: Holds the job.
        job: Its id.

    Raises:
        UserError: Another driver runs the job, it brings along code that may not run, or a mistake of the user's that shows
            only now.
        CancelledError: The job was cancelled meanwhile; its state says so.
        NasError: A stage failed; the job's state and error say so.
    """
    spec = trusted_spec(store, job)
    with claimed(store, job):
        store.set_state(job, JobState.RUNNING)
        context: JobContext | None = None
        try:
            executor = make_executor(spec.executor)
            try:
                context = JobContext(store, job, executor)
                _together(context, TOGETHER)
                _in_turn(context, AFTER)
            finally:
                if context:
                    context.close()
                executor.close()
        except CancelledError:
            store.set_state(job, JobState.CANCELLED)
            store.log(job, "cancelled")
            raise
        except Exception as error:
            message = (str(error).strip() or type(error).__name__).splitlines()[0]
            store.set_state(job, JobState.FAILED, message)
            store.log(job, message, "error")
            raise
        store.set_state(job, JobState.DONE)
        store.log(job, "done")
    return JobState.DONE


def _in_turn(context: JobContext, steps: Sequence[Step]) -> None:
    for stage, function in steps:
        context.check()
        if context.done(stage):  # by a former run, or not part of this job
            continue
        context.store.start(context.job, stage)
        try:
            function(context)
        except CancelledError:
            raise
        except Exception as error:
            context.store.fail(context.job, stage, (str(error).strip() or type(error).__name__).splitlines()[0])
            raise


def _together(context: JobContext, branches: Sequence[Sequence[Step]]) -> None:
    """Run branches side by side; where one fails, the others are stopped, and its error is the one raised."""
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

    with ThreadPoolExecutor(len(branches), thread_name_prefix="nas-stage") as threads:
        try:
            for future in [threads.submit(guarded, branch) for branch in branches]:
                future.result()
        except BaseException:  # Ctrl-C meets the main thread, which is this one
            context.stop()
            raise
    if failures:
        raise failures[0]


@contextlib.contextmanager
def claimed(store: Store, job: JobId) -> Iterator[None]:
    """Make this process the job's driver.

    Whoever holds the lock file is the only one on this machine: the kernel frees it when a driver dies, so that what a dead
    one wrote into the store does not count. Between machines the store's own claim decides.
    """
    host = socket.gethostname()
    with (store.folder(job) / "driver.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(store, job) from None
        if (store.job(job).owner or "").rpartition(":")[0] == host:
            store.release(job)
        if not store.claim(job, f"{host}:{os.getpid()}"):
            raise _taken(store, job)
        try:
            yield
        finally:
            store.release(job)


def _taken(store: Store, job: JobId) -> UserError:
    owner = store.job(job).owner or "another process"
    return UserError(f"one driver runs a job: {job} is being run by {owner}; wait for it or cancel it with nas cancel {job}")


def is_alive(process: int) -> bool:
    """Return whether a process of this machine runs; one that is dead but not yet reaped does not."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> int:
    """Run the job named on the command line on the store that ``NAS_STORE`` names."""
    from nas.store import open_store

    store, job = open_store(create=False), sys.argv[1]
    try:
        if store.job(job).state is JobState.CANCELLED:  # before this process came so far
            raise CancelledError(f"job {job} was cancelled")
        run(store, job)
    except CancelledError:
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
