"""What the sensitivity of its blocks tells a search over precisions: which options can pay, and where to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core import ArchConfig, Precision, Stage, policy_of, with_policy, without_policy
from nas.core.precision import PREFIX
from nas.export.sensitivity import Sensitivity, payoffs, seed_policies
from nas.search.start import stratified_start
from nas.service.context import JobContext
from nas.service.workers import job_definition
from nas.supernet import SpaceDefinition
from search_spaces.precision import WithPrecision

SEEDS = 10  # architectures to begin with; never more than an eighth of the budget


def found(context: JobContext) -> tuple[list[Sensitivity], float]:
    """Return what the sensitivity stage measured, and what is noise in milliseconds; nothing where the job has none."""
    stage = context.store.stages(context.job).get(Stage.SENSITIVITY)
    return ([Sensitivity(**row) for row in stage.result["blocks"]], stage.result["noise_ms"]) if stage else ([], 0.0)


def searched(context: JobContext) -> SpaceDefinition:
    """Return what is searched: the job's definition without the options of precision that cannot pay."""
    rows, noise_ms = found(context)
    if not rows:
        return context.definition
    metrics = {objective.metric for objective in context.spec.objectives}
    allowed = payoffs(
        rows,
        noise_ms=noise_ms,
        most_loss=context.spec.quantization.max_loss,
        count_ms=any(metric.startswith("latency_ms@") for metric in metrics),
        count_bytes="size_bytes" in metrics,
    )
    return WithPrecision(job_definition(context.spec, context.data), allowed)


def seeds(context: JobContext) -> list[ArchConfig]:
    """Return networks of all sizes, under policies that quantize ever more of the blocks, the least sensitive first."""
    (rows, _), count = found(context), min(SEEDS, context.spec.search.evaluations // 8)
    if not rows or count < 3:
        return []
    definition = searched(context)
    plain = job_definition(context.spec, context.data).space
    in_time = any(row.saved_ms > 0 for row in rows)
    policies = _possible(seed_policies(rows, "ms" if in_time else "bytes"), definition)
    networks = stratified_start(plain, count, context.spec.seed)
    # Steps of three walk through the policies without following the order of the networks' sizes.
    return [
        definition.space.arch({**fp32(definition, arch), **with_policy(arch, policies[3 * i % len(policies)])})
        for i, arch in enumerate(networks)
    ]


def fp32(definition: SpaceDefinition, arch: ArchConfig) -> ArchConfig:
    """Return a network of `definition` with every block in its most precise option."""
    policy = {c.name: c.options[-1] for c in definition.space.choices if c.name.startswith(PREFIX)}
    return ArchConfig({**without_policy(arch), **policy})


def as_searched(definition: SpaceDefinition, arch: ArchConfig) -> ArchConfig | None:
    """Return an architecture of another job as `definition` names it; None where that does not have it."""
    own = arch if policy_of(arch) else fp32(definition, arch)
    inside = all(name in definition.space and option in definition.space[name].options for name, option in own.items())
    return own if inside else None


def _possible(policies: Sequence[Mapping[str, Precision]], definition: SpaceDefinition) -> list[dict[str, Precision]]:
    """Return the policies without the options that are not searched, each once."""
    kept: dict[str, dict[str, Precision]] = {}
    for policy in policies:
        own = {block: p for block, p in policy.items() if p in definition.space[PREFIX + block].options}
        kept.setdefault(str(sorted(own.items())), own)
    return list(kept.values())
