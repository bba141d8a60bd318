"""Measure the candidates of the front again, in full: recalibrated batch norm, the test split, real latency."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hw_profiles.devices import job_device
from nas.core import ArchConfig, Artifact, Evaluation, JobId, Objective, Stage, Store, UserError, front
from nas.core.evaluation import Source
from nas.core.stopwatch import Stopwatch, parted
from nas.service.candidates import keep_file
from nas.service.context import JobContext
from nas.service.latency_budget import LatencyBudget
from nas.service.pool import Pool, reason
from nas.service.reuse import REUSED
from nas.service.selection import best_candidates
from nas.service.stages.profile import profiler, reference
from nas.service.stages.search import SEARCH, evaluator, not_finite, with_delta_m

VERIFY = "verify"
LEAST_S = 3.0  # of a measurement, eight sessions


def verify(context: JobContext) -> None:
    """Verify what the search found best, up to the job's number, and what a former run has not verified yet."""
    store, job, spec = context.store, context.job, context.spec
    searched = [*store.evaluations(job, REUSED), *store.evaluations(job, SEARCH)]
    chosen = best_candidates(searched, spec.objectives, spec.search.verify, spec.seed)
    have = {row.arch.key for row in store.evaluations(job, VERIFY)}
    left = [arch for arch in chosen if arch.key not in have]
    count, total = len(chosen) - len(left), len(chosen)
    store.progress(job, Stage.VERIFY, count, total, "candidates", "starting")
    timers, fingerprints = timing(context) if left else ({}, "")
    pool = Pool(lambda: evaluator(context), spec.search.workers, context.check)
    try:
        # Files and their accuracy first, as many at a time as there are workers; then latency, one by one: nothing else runs
        # while a latency is measured.
        made: list[tuple[ArchConfig, Any]] = []
        for arch, result in pool.run("verify", left):
            made.append((arch, result))
            store.progress(job, Stage.VERIFY, count, total, "candidates", f"files: {len(made)} of {len(left)} made and checked")
        pool.close()
        budget = LatencyBudget(len(made) * len(timers), LEAST_S)
        for arch, result in made:
            row = measured(context, arch, result, timers, fingerprints, budget)
            store.add(job, [row])
            count += 1
            store.progress(job, Stage.VERIFY, count, total, "candidates", row.failure or f"{arch.key} measured")
    finally:
        pool.close()
        for timer in timers.values():
            timer.close()
    points = front(store.evaluations(job, VERIFY), spec.objectives)
    if not points:
        raise UserError(_why_empty(store.evaluations(job, VERIFY), spec.objectives))
    store.finish(job, Stage.VERIFY, {"candidates": total, "front": len(points)})


def timing(context: JobContext) -> tuple[dict[str, Pool], str]:
    """Return a pool of one worker that measures latency for each device of the job, and the fingerprints of the devices."""
    meters = {name: reference(context, name) for name in context.spec.devices}
    timers = {name: Pool(lambda n=name, ms=ms: profiler(context, n, ms), 1, context.check) for name, (_, ms) in meters.items()}  # type: ignore[misc]
    return timers, ",".join(fingerprint.key for fingerprint, _ in meters.values())


def measured(
    context: JobContext,
    arch: ArchConfig,
    result: Any,
    timers: Mapping[str, Pool],
    fingerprints: str,
    budget: LatencyBudget,
    stage: str = VERIFY,
    weights: str | None = None,
) -> Evaluation:
    """Return a network as its file was measured, after its latency on every device; the file is kept.

    Args:
        context: Of the job.
        arch: The network.
        result: Its metrics, its file and a picture of predictions, or the error that a worker met.
        timers: Of `timing`.
        fingerprints: Of `timing`.
        budget: How long its latencies may take to measure.
        stage: That the evaluation is of.
        weights: Digest of the weights' file; None means the supernet's.
    """
    store, job, seed = context.store, context.job, context.spec.seed
    checkpoint = weights or store.stages(job)[Stage.TRAIN].result.get("checkpoint")
    if isinstance(result, Exception):
        return Evaluation(arch, {}, Source.MEASURED, stage, "test", None, checkpoint, seed, failure=reason(result))
    found, content, picture = result
    metrics, seconds = parted(found)
    metrics = with_delta_m(context, metrics, "test")
    bad = [o.metric for o in context.spec.objectives if not o.device and not math.isfinite(metrics.get(o.metric, math.nan))]
    if bad:
        why = not_finite(bad, metrics)
        return Evaluation(arch, {}, Source.MEASURED, stage, "test", None, checkpoint, seed, failure=why)
    latencies, spreads, watch = {}, {}, Stopwatch()
    for name, timer in timers.items():
        with watch.part("latency"), budget.next() as seconds_left:
            latency = timer.one("measure", content, True, seconds_left)
        metric = f"latency_ms@{job_device(context.spec, name).name}"
        latencies[metric], spreads[metric] = latency.ms, latency.spread * latency.ms
    keep_file(store, job, arch, content)
    keep_picture(store, job, arch, picture)
    row = Evaluation(arch, metrics | latencies, Source.MEASURED, stage, "test", fingerprints, checkpoint, seed, std=spreads)
    return replace(row, made=datetime.now(UTC), seconds=seconds | watch.seconds)


def keep_picture(store: Store, job: JobId, arch: ArchConfig, picture: bytes) -> None:
    """Write the sample predictions of a verified architecture into the job's folder."""
    folder = store.folder(job) / "samples"
    folder.mkdir(exist_ok=True)
    path = folder / f"{arch.key}.png"
    path.write_bytes(picture)
    store.add_artifact(job, Artifact("sample", path, hashlib.sha256(picture).hexdigest(), arch.key))


def _why_empty(rows: list[Evaluation], objectives: tuple[Objective, ...]) -> str:
    """Say what failed, or which limit no candidate met and how near the nearest came."""
    if rows and all(row.failure for row in rows):
        return f"a front needs candidates that can be verified: all {len(rows)} failed, the first with: {rows[0].failure}"
    for objective in objectives:
        values = [row.metrics[objective.metric] for row in rows if objective.metric in row.metrics]
        if objective.limit is not None and values and all(objective.violation(value) > 0 for value in values):
            best = min(values, key=objective.violation)
            sign = "<=" if objective.direction == "min" else ">="
            return (
                f"no candidate keeps {objective.metric}{sign}{objective.limit:g}: the nearest has {best:.4g}; loosen the limit"
            )
    return "no candidate keeps all limits at once, though each is kept by some; loosen one of them"
