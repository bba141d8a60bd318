"""A verified subnet made better after the search: pruned under a bound for every task, and trained alone for a while."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core import (
    Artifact,
    Evaluation,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    NasError,
    NotFoundError,
    Store,
    UserError,
    nearest,
)
from nas.core.refinement import has_own_weights, inherited_arch, verified
from nas.service.context import JobContext
from nas.service.executors import make_executor
from nas.service.executors.executor import Executor, Worker
from nas.service.executors.halving import Halving
from nas.service.exporting import REFINED as WEIGHTS
from nas.service.gpus import gpu_share
from nas.service.latency_budget import LatencyBudget
from nas.service.lease import leased
from nas.service.pool import result_of
from nas.service.refine_workers import REFINED, RefineWorker, Start, train_refined
from nas.service.stages.verify import LEAST_S, measured, timing
from nas.train.checkpoint import sha256

RATES = (0.1, 0.3, 1.0)  # of the job's own learning rate, which is the peak for weights that know nothing
HALVES = 4  # the first comparison is after this part of the epochs
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Refinement:
    """What to do to a network.

    Attributes:
        growth: Most that pruning may raise any task's loss by, as a share, before it is trained again; None does not prune.
        epochs: Epochs of every run.
        learning_rates: One run each.

    Raises:
        UserError: A number out of its range.
    """

    growth: float | None
    epochs: int
    learning_rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.growth is not None and not 0 < self.growth < 100:
            raise UserError(f"--prune-loss is a share above 0: got {self.growth:g}; write for example 0.3")
        if self.epochs < 1:
            raise UserError(f"--epochs is at least 1: got {self.epochs}; leave it out for half of the job's")
        rates = self.learning_rates
        if not rates or any(not 0 < rate <= 100 for rate in rates) or len(set(rates)) < len(rates):
            raise UserError(f"--learning-rates are different numbers above 0: got {list(rates)}; write for example 2e-4,1e-3")

    @classmethod
    def of(
        cls, spec: JobSpec, growth: float | None = None, epochs: int | None = None, rates: Sequence[float] | None = None
    ) -> Refinement:
        """Return a refinement with the job's own defaults: half of its epochs, and shares of its learning rate."""
        default = tuple(float(f"{share * spec.training.learning_rate:.3g}") for share in RATES)
        return cls(growth, max(1, spec.training.epochs // 2) if epochs is None else epochs, tuple(rates or default))


def refine(store: Store, job: JobId, row: Evaluation, wanted: Refinement, say: Say = lambda line: None) -> Evaluation:
    """Refine a network, store it as a measured evaluation of its own, and return that.

    Several learning rates are tried, under successive halving; the one with the least mean error on the validation split,
    relative to the subnet's as it was inherited, is measured on the test split and on the job's devices. What a refinement
    that was killed had done is not gone on with.

    Args:
        store: Holds the job.
        job: Its id.
        row: What was verified.
        wanted: What to do.
        say: Is told, line by line, how far it is.

    Raises:
        UserError: The job is not done, another process works on it, or the network was refined before.
        NasError: No run gave a network that can be measured.
    """
    record = store.job(job)
    if record.state is not JobState.DONE:
        raise UserError(f"a network of a job that is done can be refined: {job} is {record.state}; nas resume {job} ends it")
    if has_own_weights(row.arch):
        raise UserError(
            f"a network is refined from its subnet: {row.arch.key} was refined already; "
            f"give the key of its subnet, {inherited_arch(row.arch).key}"
        )
    with leased(store, job) as lease:
        executor = make_executor(record.spec.executor)
        context: JobContext | None = None
        try:
            context = JobContext(lease.store, job, executor, lease)
            shutil.rmtree(context.workplace / "refining", ignore_errors=True)  # of one that was killed
            return _refine(context, record, row, wanted, context.workplace / "refining", say)
        finally:
            if context:
                context.close()
            executor.close()


def find(store: Store, job: JobId, key: str) -> Evaluation:
    """Return the verified evaluation whose key is `key` or starts so.

    Raises:
        UserError: Nothing was verified.
        NotFoundError: There is none, or there are several.
    """
    rows = [row for row in verified(store.evaluations(job)) if not row.failure]
    if not rows:
        raise UserError(f"a network needs to be verified: job {job} is {store.job(job).state}; let it finish first")
    found = {row.arch.key: row for row in rows if row.arch.key.startswith(key)}
    if len(found) != 1:
        what = "is no verified architecture" if not found else "fits several"
        raise NotFoundError(f"{key!r} {what} of job {job}; {nearest(key, [row.arch.key for row in rows])}")
    return next(iter(found.values()))


def _refine(context: JobContext, record: JobRecord, row: Evaluation, wanted: Refinement, folder: Path, say: Say) -> Evaluation:
    store, job = context.store, context.job
    worker = _worker(context.executor, record)
    try:
        say("pruning" if wanted.growth else "taking the inherited weights")
        start: Start = result_of(worker.call("start", row.arch, wanted.growth, folder), context.check)
    finally:
        worker.stop()  # its cores are the runs'
    if start.channels:
        say(f"{1 - start.macs[1] / start.macs[0]:.1%} of the MACs removed; losses grew by {_shares(start.growth)}")
    best = _best_run(context, record, wanted, start, folder, say)
    worker = _worker(context.executor, record)
    try:
        say(f"measuring the run at {best['name']}")
        refined, weights, result = result_of(worker.call("finish", row.arch, folder, best["name"]), context.check)
    finally:
        worker.stop()
    timers, fingerprints = timing(context)
    try:
        stage = "pruned" if start.channels else "finetuned"
        made = measured(context, refined, result, timers, fingerprints, LatencyBudget(len(timers), LEAST_S), stage, weights)
    finally:
        for timer in timers.values():
            timer.close()
    if made.failure:
        raise NasError(f"a refined network can be measured: {made.failure}")
    kept = record.folder / WEIGHTS / f"{refined.key}.safetensors"
    kept.parent.mkdir(exist_ok=True)
    (folder / REFINED).replace(kept)
    facts = {
        "subnet": row.arch.key,
        "learning_rate": best["learning_rate"],
        "epochs": best["epoch"],
        "validation": best["score"],  # mean error relative to the subnet's
        "growth": start.growth,
    }
    store.add_artifact(job, Artifact(WEIGHTS, kept, sha256(kept), refined.key, facts))
    store.add(job, [made])
    store.log(job, f"{row.arch.key} refined to {refined.key} ({stage})")
    return made


def _best_run(
    context: JobContext, record: JobRecord, wanted: Refinement, start: Start, folder: Path, say: Say
) -> dict[str, Any]:
    """Return the last row of the run whose last row has the least score, with its learning rate."""
    names = {f"{rate:g}": rate for rate in wanted.learning_rates}
    last: dict[str, dict[str, Any]] = {}

    def on_report(row: dict[str, Any]) -> None:
        if "score" in row:
            last[row["name"]] = row
            score = f"mean error {row['score']:.4f} of the subnet's"
            say(f"learning rate {row['name']}: epoch {row['epoch']} of {row['epochs']}, {score}")
        context.check()

    threads = 1 if context.executor.concurrent else context.executor.cores
    common = {
        "spec": record.spec,
        "job_folder": str(record.folder),
        "folder": str(folder),
        "epochs": wanted.epochs,
        "reference": start.reference,
        "threads": threads,
    }
    configs = [{**common, "name": name, "learning_rate": rate} for name, rate in names.items()]
    gpus = gpu_share(context.executor, record.spec.training, len(configs))
    halving = Halving(first=max(1, wanted.epochs // HALVES), most=wanted.epochs)
    context.executor.trials(train_refined, configs, on_report, folder / "trials", cpus=1, gpus=gpus, halving=halving)
    finite = [row for row in last.values() if row["score"] == row["score"]]
    if not finite:
        raise NasError("a run gives a network with finite errors: none did; try smaller --learning-rates")
    best = min(finite, key=lambda row: row["score"])
    return {**best, "learning_rate": names[best["name"]]}


def _worker(executor: Executor, record: JobRecord) -> Worker:
    gpus = gpu_share(executor, record.spec.training, 1)
    return executor.worker(RefineWorker, record.spec, record.folder, executor.cores, cpus=executor.cores, gpus=gpus)


def _shares(growth: dict[str, float]) -> str:
    return ", ".join(f"{task} {share:+.1%}" for task, share in growth.items())
