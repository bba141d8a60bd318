"""The affinity of a job's tasks: from twins, from branches, from gradients alone; measured once; where a search begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_job import tiny_spec
from typer.testing import CliRunner

from nas.cli.app import app
from nas.core import JobId, JobSpec, NasError, SearchSpec, SpaceSpec, Stage, TaskSpec, TrainingSpec, UserError
from nas.core.affinity import AFFINITY, Affinity
from nas.core.branching import tree
from nas.service.affinity import affinity, measured, proposals
from nas.service.context import JobContext
from nas.service.executors.local import LocalExecutor
from nas.service.job_data import job_data
from nas.service.reuse import take_checkpoint
from nas.service.workers import CHECKPOINT, job_definition, train_twin
from nas.store import SqlStore, open_store
from nas.train.trainer import Trainer

TASKS = ("seg", "depth", "normals")
OPTIONS = {"channels": [16, 24], "decoder_channels": 8, "widths": [0.5, 1.0], "blocks": 1}
SPEC = tiny_spec(
    tasks=tuple(TaskSpec(task) for task in TASKS),
    space=SpaceSpec("branched", OPTIONS),
    training=TrainingSpec(epochs=1, batch_size=12, precision="fp32", subnets=2, twins=True),
    search=SearchSpec("random", evaluations=32, batch_size=8, profile_samples=4, calibration_images=8, verify=3),
)


def trained(store: SqlStore, spec: JobSpec) -> JobId:
    """Store a job and train its supernet, without the stages."""
    job = store.create_job(spec)
    data = job_data(spec)
    trainer = Trainer(job_definition(spec, data), data, spec.training, spec.seed, store.folder(job))
    store.start(job, Stage.TRAIN)
    store.finish(job, Stage.TRAIN, {"checkpoint": trainer.run_epoch().checkpoint})
    return job


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    opened = open_store(str(tmp_path_factory.mktemp("affinity") / "nas.db"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def job(store: SqlStore) -> JobId:
    """A trained branched job whose twins are not trained yet."""
    return trained(store, SPEC)


def test_it_is_measured_once_and_again_when_there_are_twins(store: SqlStore, job: JobId) -> None:
    first = affinity(store, job)
    assert (first.origin, first.tasks, list(first.sources)) == ("branches", TASKS, ["supernet"])
    (artifact,) = store.artifacts(job, AFFINITY)
    assert Affinity.from_json(artifact.path.read_text()).to_json() == first.to_json()

    def never(spec: JobSpec, folder: Path, twins: object) -> Affinity:
        raise AssertionError("it was measured already")

    assert affinity(store, job, never).to_json() == first.to_json()
    text = artifact.path.read_text()
    artifact.path.write_text(text.replace('"images"', '"image"'))  # not what was written: measured again, and the same
    assert affinity(store, job).to_json() == first.to_json()

    for task in TASKS:
        folder = store.folder(job) / "twins" / task
        train_twin(
            {"spec": SPEC, "job_folder": str(folder), "folder": str(folder), "task": task, "threads": 1}, lambda row: None
        )
    assert affinity(store, job, never).origin == "branches"  # they count when their stage is done
    store.start(job, Stage.TWINS)
    store.finish(job, Stage.TWINS, {})
    second = affinity(store, job)
    assert (second.origin, list(second.sources)) == ("twins", ["supernet", *TASKS])
    assert second.gradients == pytest.approx(first.gradients, rel=1e-4, abs=1e-5)  # the number of threads may differ
    assert second.closeness is not None
    assert first.closeness is not None
    assert not np.allclose(second.closeness, first.closeness)
    assert len(store.artifacts(job, AFFINITY)) == 1


def test_twins_of_a_job_whose_supernet_is_reused_are_found(store: SqlStore, job: JobId) -> None:
    heir = store.create_job(replace(SPEC, training=replace(SPEC.training, reuse=job)))
    take_checkpoint(store, job, CHECKPOINT, store.folder(heir))
    for stage in (Stage.TRAIN, Stage.TWINS):
        store.start(heir, stage)
        store.finish(heir, stage, {**store.stages(job)[stage].result, "reused": job})
    assert affinity(store, heir).to_json() == affinity(store, job).to_json()
    assert affinity(store, heir).origin == "twins"


def test_what_is_known_of_each_layer(store: SqlStore, job: JobId) -> None:
    found = affinity(store, job)
    for values in found.measures().values():
        assert values.shape == (2, 3, 3)
        assert values[:, range(3), range(3)] == pytest.approx(np.ones((2, 3)))
        assert (values <= 1 + 1e-9).all()
    assert found.rsa is not None
    assert (found.rsa.min(axis=2) == 0).all()  # rows are scaled
    assert found.channels is not None
    assert found.ranks is not None
    assert found.channels.tolist() == [16, 24]
    assert ((found.ranks >= 1) & (found.ranks <= [[16], [24]])).all()


def test_trees_are_networks_of_the_space_at_widths_that_are_enough(store: SqlStore, job: JobId) -> None:
    found = affinity(store, job)
    definition = job_definition(SPEC, job_data(SPEC))
    assert len(found.trees[0].partitions[0]) == 1
    assert len(found.trees[-1].partitions[0]) == 3
    for each in found.trees:
        assert each.arch is not None
        assert definition.space.arch(each.arch) == each.arch
        assert tree(each.arch, TASKS, 2) == each.partitions
        assert [each.macs] == definition.macs([each.arch]).tolist()
        assert each.macs <= each.full_macs  # type: ignore[operator]
        for layer, widths in enumerate(each.widths):
            for leader, enough in widths.items():
                picked = float(each.arch[f"encoder.{layer}.{leader}.width"])
                assert picked >= enough - 1e-9
                assert picked == 0.5 or enough > 0.5
    full = [each.full_macs for each in found.trees]
    assert full == sorted(full, key=lambda macs: macs or 0.0)


def test_a_search_begins_with_an_eighth_of_its_budget_of_trees(store: SqlStore, job: JobId) -> None:
    context = JobContext(store, job, LocalExecutor())
    try:
        assert measured(context).to_json() == affinity(store, job).to_json()
        first = proposals(context, context.definition)
        trees = affinity(store, job).trees
        assert 3 <= len(first) <= 4
        assert len({arch.key for arch in first}) == len(first)
        assert first[0] == trees[0].arch
        assert {tree(arch, TASKS, 2) for arch in first} <= {each.partitions for each in trees}
        context.spec = replace(SPEC, search=replace(SPEC.search, evaluations=7))
        assert proposals(context, context.definition) == []
    finally:
        context.close()


def test_a_slimmable_job_without_twins_has_gradients_alone(store: SqlStore) -> None:
    spec = tiny_spec(training=TrainingSpec(epochs=1, batch_size=12, precision="fp32", subnets=2))
    found = affinity(store, trained(store, spec))
    assert (found.origin, list(found.measures()), found.images) == ("gradients", ["gradients"], 0)
    assert [each.arch is not None for each in found.trees] == [True] + [False] * (len(found.trees) - 1)
    assert json.loads(found.to_json())["rsa"] is None


def test_what_cannot_be_compared_is_said(store: SqlStore, job: JobId) -> None:
    alone = store.create_job(tiny_spec(tasks=(TaskSpec("seg"),)))
    with pytest.raises(UserError, match=f"two tasks or more: job {alone} has seg alone"):
        affinity(store, alone)
    waiting = store.create_job(SPEC)
    with pytest.raises(UserError, match=f"those of job {waiting} are not \\(waiting\\)"):
        affinity(store, waiting)
    path = store.folder(job) / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\1")
    try:
        with pytest.raises(NasError, match="any more; train anew"):
            affinity(store, job)
    finally:
        path.write_bytes(content)


def test_the_command_prints_it_for_people_programs_and_spreadsheets(store: SqlStore, job: JobId) -> None:
    found = affinity(store, job)

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["--store", store.url, "affinity", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert Affinity.from_json(said(job, "--format", "json")).to_json() == found.to_json()
    header, *rows = said(job, "-f", "csv").splitlines()
    assert header == "measure,layer,task,other,value"
    assert len(rows) == 4 * 2 * 3 * 2  # measures, layers, pairs in both directions
    assert rows[0] == f"rsa,0,seg,depth,{found.measures()['rsa'][0, 0, 1]}"
    table = said(job)
    assert all(measure in table for measure in ("RSA affinity", "covariance similarity", "gradient cosine", "capacity"))
    assert all(each.name in table for each in found.trees)
    waiting = store.create_job(SPEC)
    refused = CliRunner().invoke(app, ["--store", store.url, "affinity", waiting])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
