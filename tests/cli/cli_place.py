"""A store with one finished job, made through the store's own methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.core import (
    ArchConfig,
    Evaluation,
    JobSpec,
    JobState,
    Objective,
    Source,
    Stage,
    TaskSpec,
)
from nas.store import SqlStore, open_store

SPEC = JobSpec(
    "rooms",
    (TaskSpec("seg"), TaskSpec("depth")),
    (Objective("error.seg"), Objective("error.depth"), Objective("latency_ms@local", limit=9.0)),
)
# error.seg, error.depth, latency: the first three are a front; the fourth is dominated; the fifth breaks the limit.
POINTS = [(0.5, 0.4, 1.0), (0.4, 0.5, 2.0), (0.3, 0.3, 4.0), (0.6, 0.6, 4.5), (0.1, 0.1, 10.0)]


@dataclass
class Place:
    """Where a store is, and what is in it."""

    url: str
    store: SqlStore
    job: str
    archs: list[ArchConfig]


def evaluation(
    arch: ArchConfig, values: tuple[float, float, float], stage: str, source: Source = Source.MEASURED
) -> Evaluation:
    metrics = {
        "error.seg": values[0],
        "error.depth": values[1],
        "latency_ms@local": values[2],
        "miou.seg": 100 * (1 - values[0]),
    }
    return Evaluation(arch, metrics, source, stage, "test", "feed", "beef", 0)


def make_place(folder: Path) -> Place:
    """Make a store in `folder` with one finished job."""
    url = str(folder / "nas.db")
    store = open_store(url)
    job = store.create_job(SPEC)
    archs = [ArchConfig({"encoder.0.width": width}) for width in (0.25, 0.5, 0.75, 1.0, 1.25)]
    store.set_state(job, JobState.RUNNING)
    for stage in store.stages(job):
        store.start(job, stage)
        store.progress(job, stage, 4, 5, "subnets", "at work")
        store.finish(job, stage)
    # What the search predicted looks better than all that was measured, and is on no front.
    store.add(job, [evaluation(archs[0], (0.0, 0.0, 0.1), "search", Source.PREDICTED)])
    store.add(job, [evaluation(arch, values, "verify") for arch, values in zip(archs, POINTS, strict=True)])
    store.log(job, "the front has 3 points")
    store.set_state(job, JobState.DONE)
    assert Stage.VERIFY in store.stages(job)
    return Place(url, store, job, archs)
