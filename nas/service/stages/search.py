"""Search the trained supernet: ask for candidates, measure their accuracy, tell, until the budget is spent."""

from __future__ import annotations

from typing import Any

from nas.core import ArchConfig, Evaluation, Source, Stage, UserError
from nas.search import make_searcher
from nas.service.context import JobContext
from nas.service.executors import Worker
from nas.service.pool import Pool, reason
from nas.service.stages.fit import Vectorised, latency_functions
from nas.service.workers import EvalWorker
from nas.tasks import KINDS
from nas.tasks.delta import delta_m
from nas.train.compute import choose_compute

SEARCH = "search"


def search(context: JobContext) -> None:
    """Evaluate candidates up to the job's budget, counting those of a former run. Every result is committed as it comes."""
    store, job, spec = context.store, context.job, context.spec
    exact: dict[str, Vectorised] = {"macs": context.definition.macs, **latency_functions(context)}
    searcher = make_searcher(spec.search.sampler, context.definition.space, spec.objectives, spec.seed, exact)
    told = store.evaluations(job, SEARCH)
    searcher.tell(told)
    count, budget = len(told), spec.search.evaluations
    checkpoint = store.stages(job)[Stage.TRAIN].result.get("checkpoint")
    pool = Pool(lambda: evaluator(context), spec.search.workers, context.check)
    try:
        while count < budget:
            store.progress(job, Stage.SEARCH, count, budget, "candidates", "choosing the next batch")
            archs = searcher.ask(min(spec.search.batch_size, budget - count))
            if not archs:
                store.log(job, f"the space has no other architecture: the search ends after {count} of {budget} candidates")
                break
            batch = []
            for arch, result in pool.run("evaluate", archs, "val"):
                row = _evaluation(context, arch, result, exact, checkpoint)
                store.add(job, [row])
                batch.append(row)
                count += 1
                store.progress(job, Stage.SEARCH, count, budget, "candidates", row.failure or _note(row))
            searcher.tell(batch)
    finally:
        pool.close()
    rows = store.evaluations(job, SEARCH)
    failed = [row for row in rows if row.failure]
    if len(failed) == len(rows):
        first = rows[0].failure if rows else "none was tried"
        raise UserError(f"a search needs candidates that can be evaluated: all {len(rows)} failed, the first with: {first}")
    store.finish(job, Stage.SEARCH, {"candidates": len(rows), "failed": len(failed)})


def evaluator(context: JobContext) -> Worker:
    """Return a worker that holds the trained weights."""
    gpu = choose_compute(context.spec.training).device.type == "cuda"
    workers = context.spec.search.workers if context.executor.concurrent else 1
    threads = max(1, context.executor.cores // workers)
    return context.executor.worker(
        EvalWorker,
        context.spec,
        context.folder,
        threads,
        cpus=context.executor.cores / workers,
        gpus=1.0 / workers if gpu else 0.0,
    )


def with_delta_m(context: JobContext, metrics: dict[str, float], split: str) -> dict[str, float]:
    """Return metrics with Δm against the twins on the same split, where the job has twins."""
    stage = context.store.stages(context.job).get(Stage.TWINS)
    twins = stage.result.get(split) if stage else None
    return metrics | {"delta_m": delta_m(metrics, twins, context.definition.tasks, KINDS)} if twins else metrics


def _evaluation(
    context: JobContext, arch: ArchConfig, result: Any, exact: dict[str, Vectorised], checkpoint: str | None
) -> Evaluation:
    """Return what is known of a candidate: its accuracy measured, its latency predicted."""
    if isinstance(result, Exception):
        return Evaluation(arch, {}, Source.MEASURED, SEARCH, "val", None, checkpoint, context.spec.seed, failure=reason(result))
    latency = {name: float(function([arch])[0]) for name, function in exact.items() if name.startswith("latency_ms@")}
    metrics = with_delta_m(context, dict(result), "val") | latency
    source = Source.PREDICTED if latency else Source.MEASURED
    return Evaluation(arch, metrics, source, SEARCH, "val", None, checkpoint, context.spec.seed)


def _note(row: Evaluation) -> str:
    return ", ".join(
        f"{name.removeprefix('error.')} {value:.3g}" for name, value in row.metrics.items() if name.startswith("error.")
    )
