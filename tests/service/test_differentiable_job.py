"""A search that begins with relaxed ones: what is stored, what a driver that goes on does again, and what layers cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_job import tiny_spec

from nas.core import (
    ArchConfig,
    DifferentiableSpec,
    JobId,
    Objective,
    SearchSpec,
    SpaceSpec,
    Stage,
    Task,
    TaskSpec,
    TrainingSpec,
    front,
)
from nas.core.branching import tree
from nas.core.task import InputSpec
from nas.core.types import FloatArray
from nas.service import api, stages
from nas.service.context import JobContext
from nas.service.executors.local import LocalExecutor, LocalWorker
from nas.service.stages.differentiable import KIND, differentiable, layer_costs
from nas.store import SqlStore, open_store
from search_spaces.branched import Branched

TASKS = ("seg", "depth", "normals")
STRENGTHS = (0.0, 50.0)
SPEC = tiny_spec(
    tasks=tuple(TaskSpec(task) for task in TASKS),
    space=SpaceSpec("branched", {"channels": [8, 16], "decoder_channels": 8, "blocks": 1, "widths": [0.5, 1.0]}),
    objectives=(Objective("error.seg"), Objective("error.depth"), Objective("macs")),
    training=TrainingSpec(epochs=1, batch_size=8, precision="fp32"),
    search=SearchSpec(
        "differentiable",
        evaluations=8,
        batch_size=4,
        profile_samples=3,
        calibration_images=8,
        verify=2,
        differentiable=DifferentiableSpec(epochs=3, strengths=STRENGTHS, learning_rate=0.5),
    ),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId]]:
    store = open_store(str(tmp_path_factory.mktemp("differentiable") / "nas.db"))
    job = api.create(store, SPEC)
    context = JobContext(store, job, LocalExecutor())
    try:
        for stage, function in ((Stage.TRAIN, stages.train), (Stage.SEARCH, stages.search)):
            store.start(job, stage)
            function(context)
    finally:
        context.close()
    yield store, job
    store.close()


class Counting(LocalExecutor):
    """Counts the workers that are made."""

    made = 0

    def worker(self, kind: type, *args: Any, cpus: float = 1, gpus: float = 0, resource: str | None = None) -> LocalWorker:
        self.made += 1
        return super().worker(kind, *args, cpus=cpus, gpus=gpus, resource=resource)


def shapes(archs: Sequence[ArchConfig]) -> list[Any]:
    return [tree(arch, TASKS, 2) for arch in archs]


def test_the_search_begins_with_the_trees_and_goes_on_with_widths(done: tuple[SqlStore, JobId]) -> None:
    store, job = done
    rows = store.evaluations(job, "search")
    assert len(rows) == SPEC.search.evaluations
    assert not any(row.failure for row in rows)
    assert {artifact.key for artifact in store.artifacts(job, KIND)} == {repr(strength) for strength in STRENGTHS}
    context = JobContext(store, job, LocalExecutor())
    try:
        trees = differentiable(context, context.definition)
    finally:
        context.close()
    assert 1 <= len(trees) <= SPEC.search.evaluations // 2
    assert [row.arch for row in rows[: len(trees)]] == trees
    assert len(set(shapes(trees))) == len(trees)
    assert all(arch[name] == 1.0 for arch in trees for name in arch if name.endswith(".width"))
    assert any(row.arch[name] != 1.0 for row in rows for name in row.arch if name.endswith(".width"))
    assert front(rows, SPEC.objectives)
    costs = {strength: store.curves(job)[f"sharing_cost.{strength:g}"] for strength in STRENGTHS}
    assert all([step for step, _ in curve] == [1, 2, 3] for curve in costs.values())
    assert all(1 <= cost <= len(TASKS) for curve in costs.values() for _, cost in curve)
    assert costs[50.0][-1][1] < costs[0.0][-1][1]  # what costs more is shared more


def test_only_what_is_lost_is_searched_again_and_comes_out_the_same(done: tuple[SqlStore, JobId]) -> None:
    store, job = done
    executor = Counting()
    context = JobContext(store, job, executor)
    try:
        trees = differentiable(context, context.definition)
        assert executor.made == 0
        (lost,) = store.artifacts(job, KIND, repr(50.0))
        written = lost.path.read_bytes()
        lost.path.unlink()
        assert differentiable(context, context.definition) == trees
        assert executor.made == 1
        assert lost.path.read_bytes() == written
    finally:
        context.close()


def test_a_layer_costs_what_its_branches_add() -> None:
    input = InputSpec(3, 32, 32, (0.5,) * 3, (0.25,) * 3)
    tasks = (Task("seg", "segmentation", 4), Task("depth", "depth", 1), Task("normals", "normals", 3))
    definition = Branched(tasks, input, channels=(8, 16, 24), decoder_channels=8)
    assert layer_costs(definition) == pytest.approx(definition.layer_macs())
    # A clock that counts multiply-accumulates gives what the closed form of a layer does.
    assert layer_costs(definition, definition.macs) == pytest.approx(definition.layer_macs())

    def odd(archs: Sequence[ArchConfig]) -> FloatArray:
        return np.array([0.0, 4.0, 1.0, 0.0][: len(archs)])  # a first layer that would gain time

    assert layer_costs(definition, odd) == pytest.approx([0.01 * 4.0 / 3 / 1, 1.5, 0.5], rel=0.1)
