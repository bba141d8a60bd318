"""The measured front of a job, as rows."""

from __future__ import annotations

from typing import Any

from nas.core import Evaluation, JobRecord, Store, front
from nas.core.refinement import verified


def measured_front(store: Store, job: JobRecord) -> list[Evaluation]:
    """Return the front of what was verified and refined, or what the search has measured so far where nothing is yet."""
    rows = store.evaluations(job.id)
    return front(verified(rows) or [row for row in rows if row.stage in ("search", "reused")], job.spec.objectives)


def contract(point: Evaluation) -> dict[str, Any]:
    """Return one point as ``nas pareto --format json`` documents it."""
    return {
        "key": point.arch.key,
        "arch": dict(point.arch),
        "metrics": dict(point.metrics),
        "source": str(point.source),
        "device": point.device,
    }


def columns(point: Evaluation, job: JobRecord) -> dict[str, Any]:
    """Return one point as a flat row: the objectives first, then every other metric."""
    objectives = [objective.metric for objective in job.spec.objectives]
    others = sorted(name for name in point.metrics if name not in objectives)
    return {"key": point.arch.key} | {name: point.metrics.get(name) for name in (*objectives, *others)}
