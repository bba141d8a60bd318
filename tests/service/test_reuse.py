"""A job that takes the supernet of another one: nothing is trained, evaluated or profiled twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_job import Audit, tiny_spec
from typer.testing import CliRunner

from nas.cli.app import app
from nas.core import JobId, JobState, Objective, SearchSpec, Stage, TaskSpec, TrainingSpec, UserError
from nas.service import api
from nas.service.reuse import adopt
from nas.service.workers import CHECKPOINT
from nas.store import SqlStore, open_store

SEARCH = SearchSpec("random", evaluations=3, batch_size=3, profile_samples=3, calibration_images=8, verify=1)
FORMER = tiny_spec(search=SEARCH, training=TrainingSpec(epochs=1, batch_size=8, precision="fp32", twins=True))


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId, Audit]]:
    """A finished job whose store counts what is handed to it."""
    folder = tmp_path_factory.mktemp("former")
    store = open_store(str(folder / "nas.db"))
    audit = Audit(folder / "nas.db")
    job = api.create(store, FORMER)
    assert api.run(store, job) is JobState.DONE
    yield store, job, audit
    store.close()


def job_file(**training: Any) -> str:
    spec = FORMER
    objectives = ["error.seg", "error.depth", "latency_ms@local<=1000", "latency_ms@local-2t"]
    return yaml.safe_dump(
        {
            "name": "again",
            "tasks": [task.name for task in spec.tasks],
            "objectives": objectives,
            "executor": "local",
            "devices": ["local", "local-2t"],
            "data": {"name": spec.data.name, "options": spec.data.options, "val_fraction": spec.data.val_fraction},
            "space": {"options": spec.space.options},
            "training": training,
            "search": {"sampler": "random", "evaluations": 2, "batch_size": 2, "profile_samples": 3}
            | {"calibration_images": 8, "verify": 1},
        }
    )


def test_a_second_job_trains_nothing_and_evaluates_nothing_again(former: tuple[SqlStore, JobId, Audit], tmp_path: Path) -> None:
    store, first, audit = former
    file = tmp_path / "again.yaml"
    file.write_text(job_file(reuse=first[:4], twins=True))
    before = audit.count("evaluations"), audit.count("profiles")
    made = CliRunner().invoke(app, ["--store", store.url, "run", str(file)])
    assert made.exit_code == 0, made.output
    job = store.job("latest").id
    record = store.job(job)
    assert record.spec.training == replace(FORMER.training, reuse=first)

    checkpoint = store.stages(first)[Stage.TRAIN].result["checkpoint"]
    result = store.stages(job)[Stage.TRAIN].result
    assert (result["reused"], result["checkpoint"]) == (first, checkpoint)
    assert (record.folder / CHECKPOINT).read_bytes() == (store.folder(first) / CHECKPOINT).read_bytes()
    assert store.stages(job)[Stage.TWINS].result["test"] == store.stages(first)[Stage.TWINS].result["test"]
    assert store.curves(job).keys() >= {"loss.seg", "loss.depth"}
    assert not (record.folder / "twins").exists()

    theirs = {row.arch.key: row for row in store.evaluations(first, "search")}
    reused = {row.arch.key: row for row in store.evaluations(job, "reused")}
    searched = {row.arch.key for row in store.evaluations(job, "search")}
    assert reused.keys() == theirs.keys()
    assert len(searched) == 2  # the whole budget, and nothing of it on what was known
    assert not searched & theirs.keys()
    for key, row in reused.items():
        assert row.metrics["error.seg"] == theirs[key].metrics["error.seg"]
        assert {"latency_ms@local", "latency_ms@local-2t", "delta_m"} <= row.metrics.keys()
    assert store.stages(job)[Stage.SEARCH].result == {"candidates": 2, "failed": 0, "reused": 3}
    assert any("3 evaluations of job" in event.message for event in store.events(job))
    assert {row.arch.key for row in store.evaluations(job, "verify")} <= searched | reused.keys()

    mine = {(row.device, row.arch.key): row for row in store.profiles(job)}
    for row in store.profiles(first):
        assert mine[row.device, row.arch.key] == row  # the very measurement
    assert {device for device, _ in mine} == {"local", "local-2t"}
    assert any("3 subnets measured on local by job" in event.message for event in store.events(job))
    assert (
        audit.count("evaluations") - before[0]
        == {("reused", key): 1 for key in reused}
        | {(row.stage, row.arch.key): 1 for row in store.evaluations(job) if row.stage != "reused"}
        | {}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed is 1 here and 0 in job"),
        ({"tasks": (TaskSpec("seg"),), "objectives": (Objective("error.seg"), Objective("macs"))}, r"tasks is \['seg'\] here"),
        ({"space": replace(FORMER.space, options={**FORMER.space.options, "widths": [1.0]})}, r"space.options.widths is"),
        ({"data": replace(FORMER.data, options={**FORMER.data.options, "images": 40})}, r"data.options.images is 40 here"),
    ],
)
def test_another_kind_of_job_is_refused_with_the_difference(
    former: tuple[SqlStore, JobId, Audit], changes: dict[str, Any], message: str
) -> None:
    store, first, _ = former
    with pytest.raises(UserError, match=message):
        api.create(store, tiny_spec(training=TrainingSpec(reuse=first), **changes))


def test_what_is_not_trained_or_not_there_is_refused(former: tuple[SqlStore, JobId, Audit]) -> None:
    store, first, _ = former
    waiting = store.create_job(FORMER)
    with pytest.raises(UserError, match=f"that of job {waiting} is not"):
        adopt(store, replace(FORMER, training=TrainingSpec(reuse=waiting)))
    with pytest.raises(UserError, match="a job is named by its id"):
        adopt(store, replace(FORMER, training=TrainingSpec(reuse="zzzzzzzz")))
    job = api.create(store, replace(FORMER, training=TrainingSpec(reuse=first)))
    checkpoint = store.folder(first) / CHECKPOINT
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(UserError, match="as it was trained"):
            api.run(store, job)
    finally:
        checkpoint.write_bytes(content)
