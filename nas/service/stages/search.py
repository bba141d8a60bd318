"""Search the trained supernet: ask for candidates, measure their accuracy, tell, until the budget is spent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas.core import ArchConfig, Evaluation, JobSpec, NasError, PredictorReport, Source, Stage, UserError
from nas.search import make_searcher
from nas.service.affinity import proposals
from nas.service.context import JobContext
from nas.service.executors import Worker
from nas.service.gpus import gpu_share
from nas.service.latency_features import Vectorised
from nas.service.pool import Pool, reason
from nas.service.precisions import as_searched, searched, seeds
from nas.service.reuse import REUSED, former_evaluations, without_predictions
from nas.service.screening import PART, SCREEN, WIDTH, summary, unpromising
from nas.service.selection import best_candidates
from nas.service.stages.candidate_latency import CandidateTimer
from nas.service.stages.differentiable import differentiable
from nas.service.stages.fit import latency_functions
from nas.service.workers import EvalWorker
from nas.tasks import KINDS
from nas.tasks.delta import delta_m

SEARCH = "search"


@dataclass(frozen=True)
class Scribe:
    """Makes evaluations of what workers answer: accuracy measured, latency predicted where it was not measured.

    Attributes:
        exact: Metric to what predicts or counts it.
        error: Metric to the relative error of its predictor, root mean square over held-out subnets.
        checkpoint: SHA-256 of the weights, first 16 digits.
        fingerprints: Of the devices of measured latencies; None where they are predicted.
    """

    context: JobContext
    exact: Mapping[str, Vectorised]
    error: Mapping[str, float]
    checkpoint: str | None
    fingerprints: str | None = None

    def write(self, arch: ArchConfig, result: Any, stage: str = SEARCH, split: str = "val") -> Evaluation:
        """Return what is known of a candidate; one whose objectives are not all finite numbers is a failed one."""
        if isinstance(result, Exception):
            return self._failed(arch, reason(result), stage, split)
        missing = {name: f for name, f in self.exact.items() if name.startswith("latency_ms@") and name not in result}
        latency = {name: float(f([arch])[0]) for name, f in missing.items()}
        metrics = with_delta_m(self.context, dict(result), "val") | latency
        bad = [o.metric for o in self.context.spec.objectives if not math.isfinite(metrics.get(o.metric, math.nan))]
        if bad:
            return self._failed(arch, not_finite(bad, metrics), stage, split)
        source = Source.PREDICTED if latency else Source.MEASURED
        std = {name: value * self.error[name] for name, value in latency.items() if name in self.error}
        device = None if latency else self.fingerprints
        return Evaluation(arch, metrics, source, stage, split, device, self.checkpoint, self.context.spec.seed, std)

    def _failed(self, arch: ArchConfig, why: str, stage: str, split: str) -> Evaluation:
        seed = self.context.spec.seed
        return Evaluation(arch, {}, Source.MEASURED, stage, split, None, self.checkpoint, seed, failure=why)


def search(context: JobContext) -> None:
    """Evaluate candidates up to the job's budget, counting those of a former run. Every result is committed as it comes."""
    store, job, spec = context.store, context.job, context.spec
    told, screened = store.evaluations(job, SEARCH), store.evaluations(job, SCREEN)
    timer = CandidateTimer(context, told) if spec.quantization.search else None
    latencies = timer.latencies if timer else latency_functions(context)
    exact: dict[str, Vectorised] = {"macs": context.definition.macs, **latencies}
    error = {report.target: held_out_error(report) for report, _ in store.predictors(job) if report.truth}
    checkpoint = store.stages(job)[Stage.TRAIN].result.get("checkpoint")
    scribe = Scribe(context, exact, error, checkpoint, timer.fingerprints if timer else None)
    sampler = "predictor" if spec.search.sampler == "differentiable" else spec.search.sampler
    searcher = make_searcher(sampler, searched(context).space, spec.objectives, spec.seed, exact)
    reused = _take_over(scribe)
    searcher.tell([*reused, *told, *unpromising(screened, [row.arch for row in told])])
    known = {row.arch.key for row in [*reused, *told]}
    definition = searched(context)
    start = dict.fromkeys([*differentiable(context, definition), *seeds(context), *proposals(context, definition)])
    first = [arch for arch in start if arch.key not in known]
    count, budget = len(told), spec.search.evaluations
    pool = Pool(lambda: evaluator(context), spec.search.workers, context.check)
    try:
        while count < budget:
            store.progress(job, Stage.SEARCH, count, budget, "candidates", "choosing the next batch")
            wanted = min(spec.search.batch_size, budget - count)
            archs = first[:wanted] or searcher.ask(wanted * WIDTH if spec.search.screening else wanted)
            first = first[wanted:]
            if not archs:
                store.log(job, f"the space has no other architecture: the search ends after {count} of {budget} candidates")
                break
            if spec.search.screening and len(archs) > wanted:
                seen, results = _screened(scribe, pool, archs, wanted)
            else:
                seen, results = [], pool.run(_method(spec), archs, "val")
            batch = []
            for arch, result in results:
                row = scribe.write(arch, timer.timed(arch, result) if timer else result)
                store.add(job, [row])
                batch.append(row)
                count += 1
                store.progress(job, Stage.SEARCH, count, budget, "candidates", row.failure or _note(row))
            store.add(job, seen)  # only now: what a driver that died had screened may be proposed again
            searcher.tell([*batch, *unpromising(seen, [row.arch for row in batch])])
            for report in searcher.reports():
                store.save_predictor(job, report, {})
    finally:
        pool.close()
        if timer:
            timer.close()
    _finish(context)


def evaluator(context: JobContext) -> Worker:
    """Return a worker that holds the trained weights."""
    workers = context.spec.search.workers if context.executor.concurrent else 1
    threads = max(1, context.executor.cores // workers)
    return context.executor.worker(
        EvalWorker,
        context.spec,
        context.folder,
        threads,
        cpus=context.executor.cores / workers,
        gpus=gpu_share(context.executor, context.spec.training, workers),
    )


def with_delta_m(context: JobContext, metrics: dict[str, float], split: str) -> dict[str, float]:
    """Return metrics with Δm against the twins on the same split, where the job has twins that it can be told against."""
    stage = context.store.stages(context.job).get(Stage.TWINS)
    twins = stage.result.get(split) if stage else None
    found = delta_m(metrics, twins, context.definition.tasks, KINDS) if twins else math.nan
    return metrics | {"delta_m": found} if math.isfinite(found) else metrics


def held_out_error(report: PredictorReport) -> float:
    """Return the root mean square of a predictor's relative errors on subnets that it was not fitted on."""
    return float(np.sqrt(np.mean((np.array(report.truth) / np.array(report.predicted) - 1) ** 2)))


def not_finite(names: Sequence[str], metrics: Mapping[str, float]) -> str:
    """Return why a candidate is skipped whose metrics `names` are no numbers."""
    found = ", ".join(f"{name} is {metrics.get(name, 'missing')}" for name in names)
    return f"an evaluation gives every objective a finite number: {found}"


def _take_over(scribe: Scribe) -> list[Evaluation]:
    """Return what the job whose supernet is reused has measured, with this job's latencies and Δm, stored here too."""
    context = scribe.context
    store, job, former = context.store, context.job, context.spec.training.reuse
    if former is None:
        return []
    definition, rows = searched(context), []
    for row in former_evaluations(store, former, context.spec, scribe.checkpoint):
        arch = as_searched(definition, row.arch)
        if arch is None:
            continue
        if row.failure:
            rows.append(replace(row, arch=arch, stage=REUSED))
        else:
            rows.append(scribe.write(arch, without_predictions(row.metrics), REUSED))
    if store.add(job, rows):
        store.log(job, f"{len(rows)} evaluations of job {former} are reused; they do not count towards the budget")
    return rows


def _screened(
    scribe: Scribe, pool: Pool, archs: list[ArchConfig], wanted: int
) -> tuple[list[Evaluation], Iterator[tuple[ArchConfig, Any]]]:
    """Score candidates on a part of the images; return that, and the results of at most `wanted` of them, as they come.

    Those are the promising ones on all images; where too few could be scored, what failed is a result too.
    """
    spec, seen = scribe.context.spec, []
    for arch, result in pool.run("screen", archs, spec.search.screening):
        seen.append(scribe.write(arch, result, SCREEN, PART))
    seen.sort(key=lambda row: row.arch.key)  # the order in which workers answer must not matter
    promoted = best_candidates(seen, spec.objectives, wanted, spec.seed)
    failed = [row for row in seen if row.failure][: wanted - len(promoted)]

    def results() -> Iterator[tuple[ArchConfig, Any]]:
        yield from pool.run(_method(spec), promoted, "val")
        for row in failed:
            yield row.arch, NasError(row.failure)

    return seen, results()


def _method(spec: JobSpec) -> str:
    """Return what an evaluation worker is asked for: the file too, where it is to be timed."""
    return "evaluate_file" if spec.quantization.search else "evaluate"


def _finish(context: JobContext) -> None:
    store, job, spec = context.store, context.job, context.spec
    rows, reused = store.evaluations(job, SEARCH), store.evaluations(job, REUSED)
    failed = [row for row in rows if row.failure]
    if len(failed) == len(rows) and not reused:
        first = rows[0].failure if rows else "none was tried"
        raise UserError(f"a search needs candidates that can be evaluated: all {len(rows)} failed, the first with: {first}")
    result: dict[str, Any] = {"candidates": len(rows), "failed": len(failed)}
    if spec.training.reuse:
        result["reused"] = len(reused)
    if spec.search.screening:
        result["screening"] = summary(spec.search.screening, store.evaluations(job, SCREEN), rows)
    store.finish(job, Stage.SEARCH, result)


def _note(row: Evaluation) -> str:
    return ", ".join(
        f"{name.removeprefix('error.')} {value:.3g}" for name, value in row.metrics.items() if name.startswith("error.")
    )
