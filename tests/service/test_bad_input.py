"""What cannot work is said as early as it can be known, and a number that is none costs one candidate, not the job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_job import tiny_spec

from nas.core import (
    DataSpec,
    JobSpec,
    JobState,
    Objective,
    ObjectiveError,
    SearchSpec,
    Stage,
    StageState,
    TrainingSpec,
    UserError,
)
from nas.service import api
from nas.service.context import JobContext
from nas.service.executors import make_executor
from nas.service.job_data import job_data
from nas.service.stages.train import train
from nas.service.workers import CHECKPOINT, job_definition
from nas.store import SqlStore

SEARCH = SearchSpec("random", evaluations=8, batch_size=4, profile_samples=3, calibration_images=8, verify=1)
QUICK = TrainingSpec(epochs=1, batch_size=8, precision="fp32")


def blind(split: str) -> JobSpec:
    return tiny_spec(
        data=DataSpec("python:own_rooms:blind", options={"split": split}),
        search=replace(SEARCH, evaluations=2, batch_size=2),
        training=QUICK,
    )


def test_a_subnet_whose_numbers_are_none_is_skipped_and_the_others_go_on(store: SqlStore) -> None:
    """Weights that only wide networks have are NaN, as after an overflow."""
    spec = tiny_spec(objectives=(Objective("error.depth"), Objective("macs")), search=SEARCH, training=QUICK)
    job = api.create(store, spec)
    context = JobContext(store, job, make_executor("local"))
    store.start(job, Stage.TRAIN)
    train(context)
    context.close()
    spoil(store.folder(job) / CHECKPOINT)
    assert api.run(store, job) is JobState.DONE

    rows = store.evaluations(job, "search")
    skipped = [row for row in rows if row.failure]
    assert 0 < len(skipped) < len(rows) == 8
    assert store.stages(job)[Stage.SEARCH].result["failed"] == len(skipped)
    assert {row.failure for row in skipped} == {"an evaluation gives every objective a finite number: error.depth is nan"}
    broken = wide_names(spec)
    assert all(any(row.arch[name] == 1.0 for name in broken) == bool(row.failure) for row in rows)
    skipped_keys = {row.arch.key for row in skipped}
    assert not skipped_keys & {row.arch.key for row in store.evaluations(job, "verify")}


def spoil(checkpoint: Path) -> None:
    with safe_open(checkpoint, framework="pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        if name.startswith("model.supernet.") and ".stages." in name and name.endswith("conv1.0.weight"):
            tensor[-1] = torch.nan
    save_file(tensors, checkpoint, metadata=facts)


def wide_names(spec: JobSpec) -> list[str]:
    """The choices of an encoder stage's width."""
    space = job_definition(spec, job_data(spec)).space
    return [choice.name for choice in space.choices if choice.name.startswith("encoder.") and choice.name.endswith("width")]


@pytest.mark.parametrize(
    ("split", "stage", "message"),
    [
        ("val", Stage.SEARCH, r"all 2 failed, the first with: .* error\.depth is nan"),
        ("test", Stage.VERIFY, r"all 1 failed, the first with: .* error\.depth is nan"),
    ],
)
def test_data_that_gives_no_number_is_said_and_every_row_is_kept(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, split: str, stage: Stage, message: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    job = api.create(store, blind(split))
    with pytest.raises(UserError, match=message):
        api.run(store, job)
    assert store.stages(job)[stage].state is StageState.FAILED
    assert all("error.depth is nan" in row.failure for row in store.evaluations(job, stage.value))
    assert len(store.evaluations(job, "search")) == 2


def test_a_latency_limit_out_of_reach_is_said_after_the_fit_with_the_nearest_value(store: SqlStore) -> None:
    limited = (Objective("error.seg"), Objective("latency_ms@local", limit=0.005))
    job = api.create(store, tiny_spec(objectives=limited, search=SEARCH, training=QUICK))
    with pytest.raises(ObjectiveError, match=r"none keeps latency_ms@local<=0\.005; the fastest takes [\d.e-]+ ms"):
        api.run(store, job)
    assert store.stages(job)[Stage.FIT].state is StageState.FAILED
    assert store.stages(job)[Stage.SEARCH].state is StageState.WAITING
    assert len(store.profiles(job)) == 3


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Objective("delta_m", "max"), "training.twins is false"),
        (Objective("latency_ms@raspberry-pi-4"), "names 'raspberry-pi-4'; .*latency_ms@local"),
        (Objective("miou.sky", "max"), "no metric 'miou.sky' in this job; did you mean 'miou.seg'"),
        (Objective("rmse_m.depth", "max"), "rmse_m.depth is minimised"),
    ],
)
def test_an_objective_that_nobody_measures_is_said_before_anything_is_measured(
    store: SqlStore, objective: Objective, message: str
) -> None:
    job = api.create(store, tiny_spec(objectives=(Objective("error.seg"), objective), search=SEARCH, training=QUICK))
    context = JobContext(store, job, make_executor("local"))
    from nas.service.stages.profile import profile

    try:
        with pytest.raises(ObjectiveError, match=message):
            profile(context)
    finally:
        context.close()
    assert store.profiles(job) == []
