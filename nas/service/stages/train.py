"""Train the supernet on one or several processes."""

from __future__ import annotations

import uuid
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core import Artifact, CrashError, CurvePoint, JobId, OutOfMemoryError, Stage, WorkerError
from nas.service.context import JobContext
from nas.service.executors import Worker
from nas.service.gpus import wanted_gpus
from nas.service.pool import ATTEMPTS, CRASH_REMEDY, CRASHES, MEMORY_REMEDY
from nas.service.reuse import take_checkpoint
from nas.service.workers import CHECKPOINT, TrainWorker
from nas.service.workplace import publish, reopen
from nas.train.checkpoint import sha256
from nas.train.trainer import EpochReport


def train(context: JobContext) -> None:
    """Train every epoch that is left. Where a process dies, all of them start again from the last checkpoint."""
    if context.spec.training.reuse is not None:
        _take(context, context.spec.training.reuse)
        return
    store, job, epochs = context.store, context.job, context.spec.training.epochs
    store.progress(job, Stage.TRAIN, 0, epochs, "epochs", "loading the data")
    reopen(context.folder, context.workplace, CHECKPOINT)
    batch_size = context.spec.training.batch_size
    failures, last = 0, -1
    while True:
        try:
            report = _train_until_done(context, batch_size)
            break
        except OutOfMemoryError as error:
            context.check()
            if batch_size < context.spec.training.batch_size or batch_size < 2:
                raise OutOfMemoryError(f"{error}, with batches of {batch_size} images; {MEMORY_REMEDY}") from error
            batch_size //= 2
            store.log(
                job,
                f"training ran {error}; going on with batches of {batch_size} images instead of {2 * batch_size}",
                "warning",
            )
        except (WorkerError, RuntimeError) as error:  # gloo and NCCL raise a RuntimeError when a peer is gone
            context.check()
            progressed = store.stages(job)[Stage.TRAIN].done
            failures = 1 if progressed > last else failures + 1
            last = progressed
            what = f"{str(error).splitlines()[0][:200]}, epoch {progressed + 1}"
            store.log(job, f"a training process failed ({what}); going on from the last checkpoint", "warning")
            if isinstance(error, CrashError) and failures == CRASHES:
                raise CrashError(f"training was {what}, {CRASHES} times; {CRASH_REMEDY}, then nas resume {job}") from error
            if failures == ATTEMPTS:
                raise
    store.folder(job)  # this driver's still
    path = publish(context.folder, context.workplace, CHECKPOINT)
    digest = sha256(path)
    store.add_artifact(job, Artifact("checkpoint", path, digest))
    store.finish(job, Stage.TRAIN, {"checkpoint": digest[:16], "steps": report.step})


def _take(context: JobContext, former: JobId) -> None:
    """Take the weights and the curves of a former job instead of training."""
    store, job = context.store, context.job
    path, digest = take_checkpoint(store, former, CHECKPOINT, context.folder)
    store.add_artifact(job, Artifact("checkpoint", path, digest))
    store.add_curve(job, [CurvePoint(name, *point) for name, curve in store.curves(former).items() for point in curve])
    store.log(job, f"the supernet of job {former} is reused: nothing is trained")
    store.finish(job, Stage.TRAIN, {**store.stages(former)[Stage.TRAIN].result, "reused": former})


def _train_until_done(context: JobContext, batch_size: int) -> EpochReport:
    store, job, spec = context.store, context.job, context.spec
    spec = replace(spec, training=replace(spec.training, batch_size=batch_size))
    world = spec.training.workers if context.executor.concurrent else 1
    gpus = wanted_gpus(context.executor, spec.training)
    world = min(world, gpus or world)  # two processes cannot average their gradients on one GPU
    cores = context.executor.cores
    # One core is left to the profiler where there are enough; two threads that wait for one core are slower than one.
    threads = max(1, (cores - 1 if context.executor.concurrent else cores) // world)
    cpus = min(threads, cores / world)
    meeting = _meeting(context.workplace) if world > 1 else None
    workers: list[Worker] = [
        context.executor.worker(
            TrainWorker,
            spec,
            context.folder,
            context.workplace,
            rank,
            world,
            meeting,
            threads,
            cpus=cpus,
            gpus=1.0 if gpus else 0.0,
        )
        for rank in range(world)
    ]
    try:
        report: EpochReport | None = _all(workers, "last", context)[0]
        if report is None:
            store.progress(job, Stage.TRAIN, 0, spec.training.epochs, "epochs", "training")
            report = _all(workers, "run_epoch", context)[0]
        while True:
            context.add_curves(report.step, report.curves)
            if report.note:
                store.log(job, report.note, "warning")
            losses = ", ".join(f"{n.removeprefix('loss.')} {v:.3f}" for n, v in report.curves.items() if n.startswith("loss."))
            store.progress(job, Stage.TRAIN, report.epoch, report.epochs, "epochs", f"loss: {losses}")
            if report.epoch >= report.epochs:
                return report
            report = _all(workers, "run_epoch", context)[0]
    finally:
        for worker in workers:
            worker.stop()
        if meeting:
            meeting.unlink(missing_ok=True)


def _all(workers: list[Worker], method: str, context: JobContext) -> list[Any]:
    """Call every worker; where one fails, do not wait for those that wait for it."""
    futures = [worker.call(method) for worker in workers]
    pending: set[Future[Any]] = set(futures)
    while pending:
        context.check()
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
        errors = [error for future in done if (error := future.exception())]
        if errors:  # a death tells more than what its peers make of it
            raise next((error for error in errors if isinstance(error, WorkerError)), errors[0])
    return [future.result() for future in futures]


def _meeting(folder: Path) -> Path:
    """Return a file name that no former group has used, and drop those of groups that were killed."""
    for left in folder.glob("meeting-*"):
        left.unlink(missing_ok=True)
    return folder / f"meeting-{uuid.uuid4().hex[:8]}"
