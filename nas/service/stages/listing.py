"""List the operators of further candidates: where precisions are searched, the measured ones do not show every border.

Whether values are quantized, dequantized or laid out anew between two blocks depends on the precisions of several. Seeing an
operator takes no timing, so that more candidates can be listed than measured.
"""

from __future__ import annotations

import numpy as np

from hw_profiles.devices import job_device
from nas.core import ArchConfig, SearchSpace, Stage
from nas.core.operator import Operator
from nas.core.precision import PREFIX
from nas.service.context import JobContext
from nas.service.pool import Pool
from nas.service.stages.profile import file_maker
from nas.service.workers import ProfileWorker

POLICIES = 3  # of each network: to quantize it again takes a third of the time of its export
Listing = list[tuple[ArchConfig, tuple[Operator, ...]]]


def list_operators(context: JobContext, device: str) -> Listing:
    """Return candidates with the operators that ONNX Runtime runs for them on a device.

    As many random networks as are measured, each under `POLICIES` random policies; none for a job that searches no precisions.
    """
    spec = context.spec
    if not spec.quantization.search:
        return []
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
    return found


def draw_policies(space: SearchSpace, networks: int, rng: np.random.Generator) -> list[tuple[ArchConfig, ...]]:
    """Return random networks, each of them under random policies."""
    return [_policies(space, space.sample(rng), rng) for _ in range(networks)]


def _policies(space: SearchSpace, network: ArchConfig, rng: np.random.Generator) -> tuple[ArchConfig, ...]:
    picks = (space.sample(rng) for _ in range(POLICIES - 1))
    others = [dict(network) | {name: option for name, option in pick.items() if name.startswith(PREFIX)} for pick in picks]
    return (network, *(space.arch(other) for other in others))
