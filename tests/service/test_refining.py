"""A subnet pruned and trained further: its identity, its row, its file, and what is refused; which runs go on."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import tiny_spec
from typer.testing import CliRunner

from nas.cli.app import app
from nas.core import (
    ArchConfig,
    Evaluation,
    ExportError,
    JobId,
    JobState,
    NotFoundError,
    Objective,
    Source,
    Stage,
    TrainingSpec,
    UserError,
)
from nas.core.refinement import channels_of, inherited_arch, refined_arch, verified
from nas.core.stopwatch import parted
from nas.service.executors import LocalExecutor
from nas.service.executors.halving import Halving
from nas.service.exporting import export_arch
from nas.service.job_data import job_data
from nas.service.refining import Refinement, find, refine
from nas.service.workers import CHECKPOINT, EvalWorker, TrainWorker, job_definition
from nas.store import SqlStore, open_store
from nas.train.checkpoint import sha256
from nas.train.finetune import load_refined

SPEC = tiny_spec(
    objectives=(Objective("error.seg"), Objective("error.depth"), Objective("macs")),
    training=TrainingSpec(epochs=2, batch_size=8, precision="fp32", balancing="svd", subnets=2),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId, Evaluation, list[str]]]:
    """A job whose supernet is trained and one subnet verified; that subnet is refined once, after pruning."""
    store = open_store(str(tmp_path_factory.mktemp("refining") / "nas.db"))
    job = store.create_job(SPEC)
    worker = TrainWorker(SPEC, store.folder(job), store.folder(job), 0, 1, None, 1)
    while worker.run_epoch().epoch < SPEC.training.epochs:
        pass
    weights = sha256(store.folder(job) / CHECKPOINT)[:16]
    store.finish(job, Stage.TRAIN, {"checkpoint": weights})
    arch = job_definition(SPEC, job_data(SPEC)).space.smallest()
    metrics, _ = parted(EvalWorker(SPEC, store.folder(job), 1).evaluate(arch, "test"))
    store.add(job, [Evaluation(arch, metrics, Source.MEASURED, "verify", "test", None, weights)])
    store.set_state(job, JobState.DONE)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nas.service.executors.local.usable_cores", lambda: 1
        )  # networks this small are slower on two cores than on one
        made = refine(store, job, find(store, job, arch.key[:6]), Refinement(2.0, 2, (1e-3, 1e-2)), said.append)
    yield store, job, made, said
    store.close()


def test_a_refined_network_is_a_measured_row_of_its_own(trained: tuple[SqlStore, JobId, Evaluation, list[str]]) -> None:
    store, job, made, said = trained
    (subnet,) = store.evaluations(job, "verify")
    assert (made.stage, made.split, made.source) == ("pruned", "test", Source.MEASURED)
    assert [row.arch.key for row in verified(store.evaluations(job))] == [subnet.arch.key, made.arch.key]
    assert made.arch.key != subnet.arch.key
    assert inherited_arch(made.arch) == subnet.arch
    assert channels_of(made.arch)
    assert made.metrics["macs"] < subnet.metrics["macs"]
    assert set(made.metrics) == {*subnet.metrics, "latency_ms@local", "size_bytes"}  # what a file alone has
    (artifact,) = store.artifacts(job, "refined", made.arch.key)
    assert artifact.sha256 == sha256(artifact.path)
    assert artifact.sha256[:16] == made.checkpoint == made.arch["weights"]
    assert artifact.info["subnet"] == subnet.arch.key
    runs = [line for line in said if line.startswith("learning rate")]
    assert runs[0] == f"learning rate 0.001: epoch 1 of 2, {runs[0].partition(', ')[2]}"
    assert store.job(job).owner is None
    assert not (store.folder(job) / "refining").exists()


def test_the_file_and_the_weights_say_the_same(trained: tuple[SqlStore, JobId, Evaluation, list[str]]) -> None:
    store, job, made, _ = trained
    data = job_data(SPEC)
    (weights,) = store.artifacts(job, "refined", made.arch.key)
    (file,) = store.artifacts(job, "candidate", made.arch.key)
    net, arch = load_refined(weights.path, job_definition(SPEC, data))
    assert arch == ArchConfig({name: option for name, option in made.arch.items() if name != "weights"})
    from nas.export import max_differences

    pixels = data.test.inputs.float() / 255
    assert max(max_differences(file.path, net, data.input, data.tasks, [pixels]).values()) < 1e-4
    assert float(sum(p.numel() for p in net.parameters())) == made.metrics["params"]


def test_an_export_takes_the_weights_of_the_refined_network(
    trained: tuple[SqlStore, JobId, Evaluation, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, job, made, _ = trained
    with_device = replace(SPEC, devices=("local",))
    record = replace(store.job(job), spec=with_device)
    monkeypatch.setattr(store, "job", lambda name: record)  # the job has no device, and a card names one
    path = export_arch(store, job, made, tmp_path)
    assert path.name == f"{made.arch.key}.onnx"
    assert path.read_bytes() == (store.folder(job) / "candidates" / path.name).read_bytes()
    (weights,) = store.artifacts(job, "refined", made.arch.key)
    kept = shutil.copy(weights.path, tmp_path / "kept")
    weights.path.write_bytes(b"other")
    with pytest.raises(ExportError, match=f"nas finetune {job} --arch {inherited_arch(made.arch).key} again"):
        export_arch(store, job, made, tmp_path)
    shutil.copy(kept, weights.path)


def test_what_cannot_be_refined_is_said(trained: tuple[SqlStore, JobId, Evaluation, list[str]]) -> None:
    store, job, made, _ = trained
    wanted = Refinement.of(SPEC)
    assert wanted == Refinement(None, 1, (2e-4, 6e-4, 2e-3))
    with pytest.raises(UserError, match=f"was refined already; give the key of its subnet, {inherited_arch(made.arch).key}"):
        refine(store, job, made, wanted)
    with pytest.raises(NotFoundError, match="'zz' is no verified architecture"):
        find(store, job, "zz")
    other = store.create_job(SPEC)
    with pytest.raises(UserError, match="needs to be verified"):
        find(store, other, made.arch.key)
    with pytest.raises(UserError, match=f"{other} is queued; nas resume {other} ends it"):
        refine(store, other, made, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prune-loss", "0"], "--prune-loss is a share above 0: got 0"),
        (["--epochs", "0"], "--epochs is at least 1: got 0"),
        (["--learning-rates", "1e-3,fast"], "got '1e-3,fast'; write for example 2e-4,1e-3"),
        (["--learning-rates", "1e-3,1e-3"], "different numbers above 0"),
    ],
)
def test_options_out_of_range_are_one_line(
    trained: tuple[SqlStore, JobId, Evaluation, list[str]], options: list[str], message: str
) -> None:
    store, job, made, _ = trained
    command = ["finetune", job, "--arch", inherited_arch(made.arch).key, *options, "--store", store.url]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_identity_follows_from_subnet_channels_and_weights() -> None:
    arch = ArchConfig({"encoder.0.width": 0.5, "precision.stem": "int8"})
    one = refined_arch(arch, {"stem.0": 3}, "ab")
    assert dict(one) == {**arch, "channels.stem.0": 3, "weights": "ab"}
    assert refined_arch(one, {}, "cd") == ArchConfig({**arch, "weights": "cd"})
    assert inherited_arch(one) == arch


def scores(config: dict[str, Any], report: Any) -> None:
    """A run whose score falls towards its own end."""
    for epoch in range(1, 9):
        report({"epoch": epoch, "score": config["end"] + 1 / epoch})


def test_halving_goes_on_with_the_best(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    configs = [{"name": name, "end": end} for name, end in (("good", 1.0), ("bad", 3.0), ("best", 0.0), ("nan", math.nan))]
    halving = Halving(first=2, most=8)
    assert halving.rungs == [4, 2]
    LocalExecutor().trials(scores, configs, rows.append, tmp_path / "t", halving=halving)
    ends = {row["name"]: row["epoch"] for row in rows}  # the last row of each
    assert ends == {"good": 8, "bad": 2, "best": 8, "nan": 2}


def test_training_further_starts_from_the_inherited_weights(trained: tuple[SqlStore, JobId, Evaluation, list[str]]) -> None:
    from nas.service.refine_workers import RefineWorker, _given
    from nas.service.workers import job_evaluator
    from nas.train.finetune import finetuner

    store, job, made, _ = trained
    folder, data = store.folder(job), job_data(SPEC)
    arch = inherited_arch(made.arch)
    start = RefineWorker(SPEC, folder, 1).start(arch, None, folder / "again")
    inherited = job_evaluator(SPEC, folder, data).module(arch)
    trainer = finetuner(
        _given(SPEC, folder / "again" / "start.safetensors", data)[0],
        data,
        replace(SPEC.training, subnets=1, epochs=1),
        0,
        folder / "again" / "run",
        {"weights": torch.tensor([1.5, 0.5])},
    )
    assert not start.channels
    own = trainer.supernet.shared.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in inherited.state_dict().items())
    assert trainer.balancer.get_buffer("weights").tolist() == [1.5, 0.5]
    assert trainer.run_epoch().curves.keys() >= {"val.largest.error.seg", "val.largest.error.depth"}
