"""Measure what a job whose supernet is reused has not measured on the same devices; of any other job, everything."""

from __future__ import annotations

from dataclasses import replace

from hw_profiles.devices import load_device
from nas.service.context import JobContext
from nas.service.objectivechecks import check_measured
from nas.service.precisions import as_searched
from nas.service.stages.profile import profile, reference


def profile_rest(context: JobContext) -> None:
    """Take over what a former job measured on this job's devices, then measure what is left.

    Raises:
        ObjectiveError: An objective is nothing that this job measures; first, as loading the data tells it.
    """
    check_measured(context.spec, context.data.tasks)
    store, job, former = context.store, context.job, context.spec.training.reuse
    for name in context.spec.devices if former else ():
        device = load_device(name).name
        theirs = [row for row in store.profiles(former or "") if row.device == device]
        if not theirs or any(row.device == device for row in store.profiles(job)):
            continue
        fingerprint, _ = reference(context, name)
        named = [(as_searched(context.definition, row.arch), row) for row in theirs if row.fingerprint == fingerprint]
        same = [replace(row, arch=arch) for arch, row in named if arch is not None]
        if store.add_profiles(job, same):
            store.log(job, f"{len(same)} subnets measured on {device} by job {former} are not measured again")
    profile(context)
