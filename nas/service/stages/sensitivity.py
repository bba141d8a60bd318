"""Measure what quantizing each block loses and saves, before precisions are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from nas.core import Precision, Stage, with_policy
from nas.export.sensitivity import Measured, measure_sensitivity
from nas.service.context import JobContext
from nas.service.pool import Pool
from nas.service.stages.profile import profiler, reference
from nas.service.stages.search import evaluator
from nas.supernet import blocks


def sensitivity(context: JobContext) -> None:
    """Measure files of the largest network: its errors on the validation split, its time on the job's first device."""
    store, job, spec, definition = context.store, context.job, context.spec, context.definition
    largest = definition.space.largest()
    options = {block.name: block.precisions for block in blocks(definition.super_module())}
    # None, all, and for each block: all but it, and each option alone; an option beside the first also in company.
    total = 2 + sum(1 + len(found[:-1]) + len(found[1:-1]) for found in options.values() if len(found) > 1)
    store.progress(job, Stage.SENSITIVITY, 0, total, "files", "starting")
    _, reference_ms = reference(context, spec.devices[0])
    pool = Pool(lambda: evaluator(context), 1, context.check)
    timer = Pool(lambda: profiler(context, spec.devices[0], reference_ms), 1, context.check)
    done: list[Measured] = []
    spread_ms: list[float] = []

    def measure(policy: Mapping[str, Precision]) -> Measured:
        arch = with_policy(largest, {**dict.fromkeys(options, "fp32"), **policy})
        metrics, content = pool.one("evaluate_file", arch, "val")
        latency = timer.one("measure", content, False)
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
    result = {"blocks": [asdict(row) for row in found], "noise_ms": 2 * sorted(spread_ms)[len(spread_ms) // 2]}
    store.finish(job, Stage.SENSITIVITY, result)
