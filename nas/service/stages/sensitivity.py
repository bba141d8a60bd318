"""Measure what quantizing each block loses and saves, before precisions are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nas.core import Precision, Stage, StageState, with_policy
from nas.export.sensitivity import Measured, measure_sensitivity
from nas.service.context import JobContext
from nas.service.latency_budget import LatencyBudget
from nas.service.pool import Pool
from nas.service.stages.profile import LEAST_S, profiler, reference
from nas.service.stages.search import evaluator
from nas.supernet import blocks


def sensitivity(context: JobContext) -> None:
    """Measure files of the largest network: its errors on the validation split, its time on the job's first device.

    A job whose supernet is reused has measured the same weights: what it found in the same way is taken over.
    """
    store, job, spec, definition = context.store, context.job, context.spec, context.definition
    store.progress(job, Stage.SENSITIVITY, 0, 1, "files", "starting")
    fingerprint, reference_ms = reference(context, spec.devices[0])
    way = {
        "fingerprint": fingerprint.key,
        "images": [spec.search.calibration_images, spec.quantization.calibration_images],
    }
    if former := _former(context, way):
        store.log(job, f"the sensitivity of the blocks is that of job {spec.training.reuse}: nothing is measured again")
        store.finish(job, Stage.SENSITIVITY, {**former, "reused": spec.training.reuse})
        return
    largest = definition.space.largest()
    options = {block.name: block.precisions for block in blocks(definition.super_module())}
    # None, all, and for each block: all but it, and each option alone; an option beside the first also in company.
    total = 2 + sum(1 + len(found[:-1]) + len(found[1:-1]) for found in options.values() if len(found) > 1)
    pool = Pool(lambda: evaluator(context), 1, context.check)
    timer = Pool(lambda: profiler(context, spec.devices[0], reference_ms), 1, context.check)
    done: list[Measured] = []
    budget = LatencyBudget(total, LEAST_S)
    spread_ms: list[float] = []

    def measure(policy: Mapping[str, Precision]) -> Measured:
        arch = with_policy(largest, {**dict.fromkeys(options, "fp32"), **policy})
        metrics, content = pool.one("evaluate_file", arch, "val")
        with budget.next() as seconds:
            latency = timer.one("measure", content, False, seconds)
        errors = {name: value for name, value in metrics.items() if name.startswith("error.")}
        done.append(Measured(errors, latency.ms, metrics["size_bytes"]))
        spread_ms.append(latency.spread * latency.ms)
        store.progress(job, Stage.SENSITIVITY, len(done), total, "files", f"{latency.ms:.2f} ms")
        return done[-1]

    try:
        found = measure_sensitivity(options, measure)
    finally:
        pool.close()
        timer.close()
    for row in found:
        facts = f"{row.loss:+.2%} error, {row.saved_ms:.3f} ms and {row.saved_bytes / 1e3:.0f} kB saved"
        store.log(job, f"{row.block} in {row.precision}: {facts}")
    noise_ms = 2 * sorted(spread_ms)[len(spread_ms) // 2]
    store.finish(job, Stage.SENSITIVITY, {"blocks": [asdict(row) for row in found], "noise_ms": noise_ms, "way": way})


def _former(context: JobContext, way: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the job whose supernet is reused found in the same way; empty where there is nothing of the kind."""
    reused = context.spec.training.reuse
    stage = context.store.stages(reused).get(Stage.SENSITIVITY) if reused else None
    same = stage is not None and stage.state is StageState.DONE and stage.result.get("way") == way
    return stage.result if stage and same else {}
