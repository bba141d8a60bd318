"""Measure what a sample of subnets costs on each device. Needs architectures only, so it runs while the supernet trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hw_profiles.devices import job_device
from nas.core import ArchConfig, Fingerprint, Option, Profile, SearchSpace, Stage
from nas.core.precision import PREFIX
from nas.service.context import JobContext
from nas.service.executors import Worker
from nas.service.latency_budget import LatencyBudget
from nas.service.pool import Pool, ask
from nas.service.precisions import as_searched
from nas.service.transferring import MEASUREMENTS, chosen
from nas.service.workers import FileWorker, ProfileWorker
from nas.supernet import SpaceDefinition

STRATA_OVERSAMPLING = 50
LEAST_S = 1.0  # of a measurement, three sessions


def profile(context: JobContext) -> None:
    """Measure every sampled subnet that no former run has measured, nor the job whose supernet is reused."""
    _take_over(context)
    store, job, spec = context.store, context.job, context.spec
    further = min(spec.search.profile_samples, MEASUREMENTS)
    total = spec.search.profile_samples + further * (len(spec.devices) - 1)
    for name in spec.devices:
        device = job_device(context.spec, name)
        archs = _archs(context, name)
        have = {row.arch.key for row in store.profiles(job) if row.device == device.name}
        left = [arch for arch in archs if arch.key not in have]
        if not left:
            continue
        store.progress(job, Stage.PROFILE, len(store.profiles(job)), total, "subnets", f"calibrating {device.name}")
        fingerprint, meter = reference(context, name)
        pool = Pool(lambda name=name, meter=meter: profiler(context, name, meter), 1, context.check)  # type: ignore[misc]
        makers = Pool(lambda: file_maker(context), 1, context.check)
        try:
            budget = LatencyBudget(len(left), LEAST_S)
            for arch in left:
                content, counted = makers.one("file", arch)
                with budget.next() as seconds:
                    latency, operators = pool.one("profile", content, seconds)
                store.add_profiles(job, [Profile(arch, device.name, fingerprint, latency, counted, operators)])
                note = f"{latency.ms:.2f} ms on {device.name}" + (" (noisy)" if latency.noisy else "")
                store.progress(job, Stage.PROFILE, len(store.profiles(job)), total, "subnets", note)
        finally:
            pool.close()
            makers.close()
    rows = store.profiles(job)
    store.finish(job, Stage.PROFILE, {"subnets": len(rows), "noisy": sum(row.latency.noisy for row in rows)})


def _take_over(context: JobContext) -> None:
    """Store what the job whose supernet is reused measured on the same devices, unless that was done before."""
    store, job, former = context.store, context.job, context.spec.training.reuse
    for name in context.spec.devices if former else ():
        device = job_device(context.spec, name).name
        theirs = [row for row in store.profiles(former or "") if row.device == device]
        if not theirs or any(row.device == device for row in store.profiles(job)):
            continue
        fingerprint, _ = reference(context, name)
        named = [(as_searched(context.definition, row.arch), row) for row in theirs if row.fingerprint == fingerprint]
        same = [replace(row, arch=arch) for arch, row in named if arch is not None]
        if store.add_profiles(job, same):
            store.log(job, f"{len(same)} subnets measured on {device} by job {former} are not measured again")


def _archs(context: JobContext, device: str) -> list[ArchConfig]:
    """Return what to measure: a sample on the first device, and on a further one those of them that tell most."""
    spec = context.spec
    if device == spec.devices[0]:
        return stratified_sample(context.definition, spec.search.profile_samples, np.random.default_rng([spec.seed, 2]))
    first = job_device(context.spec, spec.devices[0]).name
    return chosen(context.definition, [row for row in context.store.profiles(context.job) if row.device == first], spec.seed)


def reference(context: JobContext, device: str) -> tuple[Fingerprint, float]:
    """Return a device's fingerprint and its reference network's milliseconds, the first ever measured there.

    A driver measures the reference network once on each device.
    """
    if device not in context.references:
        fingerprint, measured = ask(lambda: _worker(context, device), "calibrate", context.check)
        first_ms = context.store.reference_ms(job_device(context.spec, device).name, fingerprint.key, measured)
        context.references[device] = fingerprint, first_ms
    return context.references[device]


def profiler(context: JobContext, device: str, reference_ms: float) -> Worker:
    """Return a worker that measures on a device in the reference network's milliseconds."""
    worker = _worker(context, device)
    worker.call("use_reference", reference_ms)
    return worker


def _worker(context: JobContext, device: str) -> Worker:
    """Return a worker on a device. It takes no core: its share of one is small, and training has the rest."""
    found = job_device(context.spec, device)
    return context.executor.worker(ProfileWorker, found, cpus=0, resource=found.resource)


def file_maker(context: JobContext) -> Worker:
    """Return a worker beside the driver that makes the files to be timed; it takes no core either."""
    return context.executor.worker(FileWorker, context.spec, context.folder, cpus=0)


def stratified_sample(definition: SpaceDefinition, count: int, rng: np.random.Generator) -> list[ArchConfig]:
    """Return distinct subnets spread evenly over the range of MACs, the smallest and the largest among them.

    Where architectures carry a policy, each block has each of its precisions equally often, but for the two at the ends.
    """
    space = definition.space
    drawn = {arch.key: arch for arch in (space.sample(rng) for _ in range(STRATA_OVERSAMPLING * count))}
    drawn |= {arch.key: arch for arch in (space.smallest(), space.largest())}
    archs = list(drawn.values())
    order = np.argsort(definition.macs(archs), kind="stable")
    if len(archs) <= count:
        return [archs[i] for i in order]
    costs = np.log(definition.macs(archs))[order]
    targets = np.linspace(costs[0], costs[-1], count)[1:-1]
    chosen = dict.fromkeys([0, len(archs) - 1])
    for target in targets:
        free = [i for i in np.argsort(np.abs(costs - target), kind="stable")[: len(chosen) + 1] if i not in chosen]
        chosen[int(free[0])] = None
    sample = [archs[order[i]] for i in sorted(chosen)][:count]
    balanced = [*sample[:1], *_with_balanced_policies(space, sample[1:-1], rng), *sample[1:][-1:]]
    return balanced if len({arch.key for arch in balanced}) == len(sample) else sample


def _with_balanced_policies(space: SearchSpace, archs: list[ArchConfig], rng: np.random.Generator) -> list[ArchConfig]:
    """Return the networks under policies in which each block has each of its precisions equally often."""
    picks: list[dict[str, Option]] = [dict(arch) for arch in archs]
    for choice in space.choices:
        if choice.name.startswith(PREFIX):
            for place, row in enumerate(rng.permutation(len(archs))):
                picks[int(row)][choice.name] = choice.options[place % len(choice.options)]
    return [space.arch(row) for row in picks]
