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
    ArchError,
    DataError,
    DataSpec,
    DifferentiableSpec,
    JobSpec,
    JobState,
    Objective,
    ObjectiveError,
    QuantizationSpec,
    SearchSpec,
    SpaceSpec,
    Stage,
    StageState,
    TaskSpec,
    TrainingSpec,
)
from nas.service import api
from nas.service.context import JobContext
from nas.service.executors import make_executor
from nas.service.idle import idle_options
from nas.service.job_data import job_data
from nas.service.jobchecks import check_enough
from nas.service.readiness import check_batches, check_labels, check_ready, training_processes
from nas.service.stages.train import train
from nas.service.workers import CHECKPOINT, job_definition
from nas.store import SqlStore
from nas.train.trainer import Trainer

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


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_task_without_a_label_is_said_before_anything_is_trained(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    job = api.create(store, blind(split))
    with pytest.raises(DataError, match=rf"scenes\.{split}\.depth has none"):
        api.run(store, job)
    assert store.job(job).state is JobState.FAILED
    assert {record.state for record in store.stages(job).values()} == {StageState.WAITING}


def test_a_task_that_no_objective_needs_may_be_without_labels_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    others = (Objective("error.seg"), Objective("macs"))
    for split in ("val", "test"):
        spec = replace(blind(split), objectives=others)
        assert check_labels(spec, job_data(spec)) == [f"scenes.{split}.depth"]
        with pytest.raises(DataError, match="and delta_m is one; label some images, or remove delta_m"):
            check_labels(replace(spec, objectives=(*others, Objective("delta_m", "max"))), job_data(spec))
    spec = replace(blind("train"), objectives=others)
    with pytest.raises(DataError, match=r"has labels to learn from: scenes\.train\.depth has none"):
        check_labels(spec, job_data(spec))


SHRINKING = SpaceSpec(options={"channels": [8, 16, 16], "decoder_channels": 8, "stem_stride": 4})  # 16 pixels become one
ROOMY = SpaceSpec(options={"channels": [8, 16], "decoder_channels": 8})


@pytest.mark.parametrize(
    ("space", "training", "search", "images", "processes", "message"),
    [
        (SHRINKING, {"batch_size": 1}, {}, 24, 1, r"batch_size 1\); write training.batch_size: 2 or more"),
        (SHRINKING, {"batch_size": 3}, {}, 24, 2, r"batch_size 3, 2 processes\); write training.batch_size: 4 or more"),
        (SHRINKING, {}, {}, 3, 2, "give at least 4 training images: there are 3"),
        (SHRINKING, {}, {"calibration_images": 1}, 24, 1, r"recalibrated on 1 image; write search\.calibration_images: 2"),
        (SHRINKING, {}, {}, 1, 1, "give at least 2 training images: there are 1"),
        (SHRINKING, {"batch_size": 2}, {"calibration_images": 2}, 24, 1, None),
        (SHRINKING, {}, {"calibration_images": 65}, 24, 1, None),
        (ROOMY, {"batch_size": 1}, {"calibration_images": 1}, 24, 1, None),
    ],
)
def test_a_batch_that_cannot_be_normalised_is_said_with_what_to_write(
    space: SpaceSpec, training: dict[str, int], search: dict[str, int], images: int, processes: int, message: str | None
) -> None:
    spec = tiny_spec(space=space, training=replace(QUICK, **training), search=replace(SEARCH, **search))
    data = job_data(spec)
    data = replace(data, train=data.train.subset(range(images)))
    definition = job_definition(spec, data)
    if message is None:
        check_batches(spec, data, definition, processes)
        return
    with pytest.raises(DataError, match=r"images of 16x16 to one pixel, and .*" + message):
        check_batches(spec, data, definition, processes)


def test_no_more_processes_train_than_there_are_images() -> None:
    spec = tiny_spec(training=replace(QUICK, workers=3))
    assert [training_processes(spec, images, concurrent=True) for images in (1, 2, 3, 50)] == [1, 2, 3, 3]
    assert training_processes(spec, 50, concurrent=False) == 1
    data = job_data(spec)
    few = replace(data, train=data.train.subset([0, 1]))
    for rank in range(3):  # in each of them, before any waits for the others
        with pytest.raises(DataError, match=r"3 processes share 2; write training\.workers: 2 or less"):
            Trainer(job_definition(spec, few), few, spec.training, 0, rank=rank, world=3, meeting=Path("nowhere"))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"widths": [1.0], "depths": [1], "resolutions": [1.0]}, 1),
        ({"channels": [8], "decoder_channels": 8, "widths": [1.0], "depths": [1, 2], "resolutions": [1.0]}, 2),
        ({"channels": [8], "decoder_channels": 8, "widths": [0.95, 1.0], "depths": [1], "resolutions": [0.99, 1.0]}, 1),
    ],
)
def test_a_space_of_few_networks_is_said_where_options_mean_the_same_too(options: dict[str, object], count: int) -> None:
    spec = tiny_spec(space=SpaceSpec(options=options))
    with pytest.raises(ArchError, match=rf"at least 3 architectures: these options of space 'slimmable.*' give {count};"):
        check_enough(job_definition(spec, job_data(spec)).space)


def test_what_a_job_does_not_read_is_said(store: SqlStore) -> None:
    spec = tiny_spec(
        tasks=(TaskSpec("seg", 2.0), TaskSpec("depth")),
        training=replace(QUICK, workers=2, twin_epochs=3),
        search=replace(SEARCH, differentiable=DifferentiableSpec(epochs=3)),
        quantization=QuantizationSpec(max_loss=0.2),
    )
    said = idle_options(spec)
    for part in (
        "the weight 2 of task seg changes nothing under training.balancing: equal; write balancing: fixed",
        "training.twin_epochs",
        "training.workers: 2 changes nothing under executor: local",
        "search.differentiable.epochs",
        "quantization.max_loss",
    ):
        assert [sentence for sentence in said if part in sentence], part
    assert len(said) == 5
    job = api.create(store, spec)
    assert [event.message for event in store.events(job) if event.level == "warning"] == said
    assert idle_options(tiny_spec()) == []


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
    try:
        with pytest.raises(ObjectiveError, match=message):
            check_ready(context)
    finally:
        context.close()
    assert store.profiles(job) == []
