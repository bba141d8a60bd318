"""Subnets that budgets and preferences ask for: answered from the control table, measured and exported like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from hw_profiles.devices import job_device
from nas.core import ArchConfig, DeviceError, Evaluation, JobId, Objective, ObjectiveError, Source, Stage, Store, UserError
from nas.core.control import Controlled
from nas.core.stopwatch import parted
from nas.service.candidates import keep_file
from nas.service.control import control_table
from nas.service.exporting import export_arch
from nas.service.job_data import stored_data
from nas.service.stages.search import not_finite
from nas.service.stages.verify import VERIFY, keep_picture
from nas.service.trust import trusted_spec
from nas.service.workers import EvalWorker, ProfileWorker
from nas.tasks import KINDS
from nas.tasks.delta import delta_m

CONTROL = "control"  # the stage of an evaluation
ATTEMPTS = 3  # at a subnet that keeps the budget when measured


def control(store: Store, job: JobId, budget: Objective, preference: Mapping[str, float]) -> Controlled:
    """Return the subnet of a trained and searched job for a budget and preferences, as predicted.

    The first call makes the job's control table, which takes some time; the next ones take milliseconds.

    Args:
        store: Holds the job.
        job: Its id.
        budget: An upper bound on a predicted cost, such as ``parse_limit("latency_ms@local<=5")``.
        preference: Task to weight, zero or more; a task that is not named has zero.

    Raises:
        UserError: The job is not searched, or the budget or the preferences cannot be met; the message says what can.
    """
    return control_table(store, job).control(budget, preference)


def export_controlled(
    store: Store, job: JobId, budget: Objective, preference: Mapping[str, float], out: Path | None
) -> tuple[Path, Evaluation]:
    """Export the subnet for a budget and preferences, once it is measured, and return the file's path and what was measured.

    Where the measured cost is beyond the budget, a smaller subnet is tried, a few times; the one that is nearest to the budget
    is exported, and the job's log says by how much it is beyond where none keeps it.

    Args:
        store: Holds the job.
        job: Its id.
        budget: As for `control`.
        preference: As for `control`.
        out: A file ending in ``.onnx``, or a folder; None means the job's folder.

    Raises:
        UserError: As for `control`; or the budget is for a device that is not this machine.
        ExportError: A check failed; no file is left.
    """
    table, asked = control_table(store, job), budget
    assert budget.limit is not None, "an upper bound"
    table.decoders(budget, preference)  # raises where the budget or the preferences cannot be met
    if budget.device and job_device(store.job(job).spec, budget.device).resource:
        raise DeviceError(f"an export measures on this machine: {budget.device} is another; budget a local device")
    found: list[Evaluation] = []
    for _ in range(ATTEMPTS):
        try:
            arch = table.control(asked, preference).arch
        except ObjectiveError:  # nothing is predicted to keep what is left of the budget
            break
        found.append(measured(store, job, arch))
        value = found[-1].metrics[budget.metric]
        if value <= budget.limit:
            break
        asked = replace(asked, limit=(asked.limit or 0.0) * budget.limit / value)
    row = min(found, key=lambda one: max(0.0, budget.violation(one.metrics[budget.metric])))
    if over(row, budget) > 0:
        store.log(job, beyond(row, budget), "warning")
    return export_arch(store, job, row, out), row


def over(row: Evaluation, budget: Objective) -> float:
    """Return the share by which a measured subnet is beyond a budget; zero or less where it keeps it."""
    return budget.violation(row.metrics[budget.metric]) / max(abs(budget.limit or 0.0), 1e-12)


def beyond(row: Evaluation, budget: Objective) -> str:
    """Return a sentence on a subnet that is beyond its budget."""
    return (
        f"{row.arch.key} was predicted to keep {budget.metric}<={budget.limit:.12g} and does not: "
        f"{row.metrics[budget.metric]:.5g} were measured, {over(row, budget):.1%} more"
    )


def measured(store: Store, job: JobId, arch: ArchConfig) -> Evaluation:
    """Return what is measured of a subnet: on the test split, with its latency on the job's devices that are this machine.

    What was verified or controlled before is not measured again.

    Raises:
        UserError: The subnet gives no finite errors.
    """
    for stage in (VERIFY, CONTROL):
        for row in store.evaluations(job, stage):
            if row.arch == arch and not row.failure:
                return row
    spec, folder = trusted_spec(store, job), store.folder(job)
    found, content, picture = EvalWorker(spec, folder, torch.get_num_threads()).verify(arch)
    metrics, seconds = parted(found)
    stages = store.stages(job)
    twins = stages[Stage.TWINS].result.get("test") if Stage.TWINS in stages else None
    if twins:
        change = delta_m(metrics, twins, stored_data(store, job).tasks, KINDS)
        metrics |= {"delta_m": change} if math.isfinite(change) else {}
    bad = [name for name, value in metrics.items() if name.startswith("error.") and not math.isfinite(value)]
    if bad:
        raise UserError(f"subnet {arch.key} cannot be measured: {not_finite(bad, metrics)}")
    std, prints = {}, []
    for device in (job_device(spec, name) for name in spec.devices):
        if device.resource:
            continue  # another machine
        worker = ProfileWorker(device)
        fingerprint, reference_ms = worker.calibrate()
        worker.use_reference(store.reference_ms(device.name, fingerprint.key, reference_ms))
        latency = worker.measure(content)
        metrics[f"latency_ms@{device.name}"], std[f"latency_ms@{device.name}"] = latency.ms, latency.spread * latency.ms
        prints.append(fingerprint.key)
    keep_file(store, job, arch, content)
    keep_picture(store, job, arch, picture)
    checkpoint = stages[Stage.TRAIN].result.get("checkpoint")
    row = Evaluation(arch, metrics, Source.MEASURED, CONTROL, "test", ",".join(prints), checkpoint, spec.seed, std=std)
    row = replace(row, made=datetime.now(UTC), seconds=seconds)
    store.add(job, [row])
    return row
