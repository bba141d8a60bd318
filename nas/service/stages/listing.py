"""List the operators of further candidates: where precisions are searched, the measured ones do not show every border.

Whether values are quantized, dequantized or laid out anew between two blocks depends on the precisions of several. Seeing an
operator takes no timing, so that more candidates can be listed than measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from hw_profiles.devices import job_device
from nas.core import ArchConfig, Artifact, JobId, SearchSpace, Stage
from nas.core.json_text import to_json
from nas.core.operator import Operator
from nas.core.precision import PREFIX
from nas.service.context import JobContext
from nas.service.pool import Pool
from nas.service.stages.profile import file_maker
from nas.service.workers import ProfileWorker
from nas.train.checkpoint import sha256

KIND = "operators"  # of the artifact, whose key is the device
POLICIES = 3  # of each network: to quantize it again takes a third of the time of its export
Listing = list[tuple[ArchConfig, tuple[Operator, ...]]]


def list_operators(context: JobContext, device: str) -> Listing:
    """Return candidates with the operators that ONNX Runtime runs for them on a device.

    As many random networks as are measured, each under `POLICIES` random policies; none for a job that searches no precisions.
    What was listed is kept, and taken over by a job that reuses this one's supernet: the same networks run the same operators
    where the device is the same.
    """
    spec = context.spec
    if not spec.quantization.search:
        return []
    rows = [row for row in context.store.profiles(context.job) if row.device == job_device(spec, device).name]
    facts = {"fingerprint": rows[0].fingerprint.key, "networks": spec.search.profile_samples} if rows else {}
    for job in (context.job, spec.training.reuse):
        if job and (listed := _kept(context, job, device, facts)):
            return listed
    rng = np.random.default_rng([spec.seed, 6])
    groups = draw_policies(context.definition.space, spec.search.profile_samples, rng)
    found: Listing = []
    where = job_device(spec, device)
    pool = Pool(lambda: context.executor.worker(ProfileWorker, where, cpus=0, resource=where.resource), 1, context.check)
    makers = Pool(lambda: file_maker(context), 1, context.check)
    try:
        for done, group in enumerate(groups):
            found += zip(group, pool.one("list_operators", makers.one("files", group)), strict=True)
            context.store.progress(context.job, Stage.FIT, done + 1, len(groups), "networks", f"operators on {device}")
    finally:
        pool.close()
        makers.close()
    _keep(context, device, found, facts)
    return found


def _keep(context: JobContext, device: str, found: Listing, facts: Mapping[str, Any]) -> None:
    name = job_device(context.spec, device).name
    path = context.folder / f"{KIND}-{name}.json"
    partial = path.with_suffix(".partial")
    rows = [{"arch": dict(arch), "operators": [astuple(operator) for operator in graph]} for arch, graph in found]
    partial.write_text(to_json(rows), encoding="utf-8")
    partial.replace(path)
    context.store.add_artifact(context.job, Artifact(KIND, path, sha256(path), name, facts))


def _kept(context: JobContext, job: JobId, device: str, facts: Mapping[str, Any]) -> Listing:
    """Return what a job has listed for a device under the same circumstances; empty where it has not."""
    for artifact in context.store.artifacts(job, KIND, job_device(context.spec, device).name):
        if artifact.info == facts and artifact.path.is_file() and sha256(artifact.path) == artifact.sha256:
            rows = json.loads(artifact.path.read_text(encoding="utf-8"))
            return [(ArchConfig(row["arch"]), tuple(map(_operator, row["operators"]))) for row in rows]
    return []


def _operator(fields: Sequence[Any]) -> Operator:
    name, kind, dtype, *shapes = fields
    input, other, output = (tuple(shape) for shape in shapes)
    return Operator(name, kind, dtype, input, other, output)


def draw_policies(space: SearchSpace, networks: int, rng: np.random.Generator) -> list[tuple[ArchConfig, ...]]:
    """Return random networks, each of them under random policies."""
    return [_policies(space, space.sample(rng), rng) for _ in range(networks)]


def _policies(space: SearchSpace, network: ArchConfig, rng: np.random.Generator) -> tuple[ArchConfig, ...]:
    picks = (space.sample(rng) for _ in range(POLICIES - 1))
    others = [dict(network) | {name: option for name, option in pick.items() if name.startswith(PREFIX)} for pick in picks]
    return (network, *(space.arch(other) for other in others))
