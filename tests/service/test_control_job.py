"""Control of a job that was trained and searched: its table, its answers, and what is measured and exported of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_job import tiny_spec
from typer.testing import CliRunner

from nas.cli.app import app
from nas.core import (
    ArchConfig,
    Evaluation,
    Fingerprint,
    JobId,
    Latency,
    Profile,
    SearchSpec,
    Source,
    Stage,
    UserError,
    parse_limit,
)
from nas.core.control import ControlTable, stored_table
from nas.service.control import control_table, margin_of
from nas.service.controlled import CONTROL, control, measured
from nas.service.job_data import job_data
from nas.service.stages.fit import gaussian_process
from nas.service.workers import CHECKPOINT, job_definition
from nas.store import SqlStore, open_store
from nas.supernet import SpaceDefinition, Supernet
from nas.train.checkpoint import save_checkpoint

SPEC = tiny_spec(search=SearchSpec("random", evaluations=40, profile_samples=12, calibration_images=8))
FINGERPRINT = Fingerprint("Some CPU", 4, "1.32.0", "CPUExecutionProvider", 1)
DATA = job_data(SPEC)
DEFINITION: SpaceDefinition = job_definition(SPEC, DATA)


def errors(arch: ArchConfig) -> dict[str, float]:
    """An encoder that helps both tasks, and decoders that help their own: segmentation twice as much."""
    encoder = sum(float(arch[f"encoder.{s}.width"]) + 0.3 * float(arch[f"encoder.{s}.depth"]) for s in (0, 1))
    seg, depth = (float(arch[f"decoder.{task}.width"]) for task in ("seg", "depth"))
    return {"error.seg": 0.9 - 0.1 * encoder - 0.2 * seg, "error.depth": 2.5 - 0.2 * encoder - 0.2 * depth}


def milliseconds(arch: ArchConfig) -> float:
    """A thousandth of what any machine takes: whatever is measured is beyond a budget of it."""
    return float(DEFINITION.macs([arch])[0]) * 1e-12


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId]]:
    """A job with untrained weights, 40 evaluations and 12 profiles, both of closed formulas."""
    store = open_store(str(tmp_path_factory.mktemp("control") / "nas.db"))
    job = store.create_job(SPEC)
    supernet = Supernet(DEFINITION)
    weights = {f"model.supernet.{name}": tensor for name, tensor in supernet.state_dict().items()}
    store.finish(job, Stage.TRAIN, {"checkpoint": save_checkpoint(store.folder(job) / CHECKPOINT, weights, {})})
    rng = np.random.default_rng(0)
    archs = {arch.key: arch for arch in (DEFINITION.space.sample(rng) for _ in range(200))}
    some = list(archs.values())[:40]
    rows = [Profile(a, "local", FINGERPRINT, Latency(milliseconds(a), 1, 0.01, 1, 1, 1, 1, 9, False), {}) for a in some[:12]]
    store.add_profiles(job, rows)
    store.save_predictor(job, *gaussian_process(DEFINITION, rows, "latency_ms@local", 0))
    store.finish(job, Stage.FIT, {})
    store.add(job, [Evaluation(arch, errors(arch), Source.PREDICTED, "search", "val") for arch in some])
    store.finish(job, Stage.SEARCH, {"candidates": 40})
    yield store, job
    store.close()


@pytest.fixture(scope="module")
def table(searched: tuple[SqlStore, JobId]) -> ControlTable:
    return control_table(*searched)


def test_a_table_predicts_every_subnet(table: ControlTable) -> None:
    assert table.errors.shape == (2, 16, 2)  # every encoder
    assert len(np.unique(table.encoders, axis=0)) == 16
    shares = np.array([0.5, 0.5])
    for encoder in range(16):
        for widths in ((0, 0), (0, 1), (1, 0), (1, 1)):
            one = table.subnet(encoder, widths, shares)
            assert DEFINITION.space.arch(one.arch) == one.arch
            assert one.metrics["macs"] == DEFINITION.macs([one.arch])[0]
            assert one.metrics["latency_ms@local"] == pytest.approx(milliseconds(one.arch), rel=0.1)
            for name, truth in errors(one.arch).items():
                assert one.metrics[name] == pytest.approx(truth, rel=0.02)
    assert table.costs["macs"].margin == table.costs["macs"].off == 0
    assert (table.off < 0.02).all()


def test_answers_follow_the_preference(searched: tuple[SqlStore, JobId], table: ControlTable) -> None:
    low, high = table.range_of("macs")
    middle = parse_limit(f"macs<={low + 0.5 * (high - low)}")
    seg, depth = (control(*searched, middle, {task: 1.0}) for task in ("seg", "depth"))
    assert seg.arch["decoder.seg.width"] == depth.arch["decoder.depth.width"] == 1.0
    assert seg.arch["decoder.depth.width"] == depth.arch["decoder.seg.width"] == 0.5
    # The best of all subnets for segmentation, by the formula itself, within the errors of the predictors.
    every = [arch for arch in DEFINITION.space.enumerate() if DEFINITION.macs([arch])[0] <= (middle.limit or 0)]
    assert errors(seg.arch)["error.seg"] <= 1.02 * min(errors(arch)["error.seg"] for arch in every)


def test_a_table_is_made_once_and_again_for_other_weights(searched: tuple[SqlStore, JobId], table: ControlTable) -> None:
    store, job = searched
    assert stored_table(store, job) is not None
    path = store.folder(job) / "control.npz"
    written = path.stat().st_mtime_ns
    control_table(store, job)
    assert path.stat().st_mtime_ns == written
    before = store.stages(job)[Stage.SEARCH].result
    store.finish(job, Stage.SEARCH, {"candidates": 41})
    assert stored_table(store, job) is None
    store.finish(job, Stage.SEARCH, before)
    assert stored_table(store, job) is not None
    assert len(store.artifacts(job, "control")) == 1


def test_the_command_answers_and_exports_what_keeps_its_budget(
    searched: tuple[SqlStore, JobId], table: ControlTable, tmp_path: Path
) -> None:
    store, job = searched
    budget = f"macs<={table.range_of('macs')[0]:.0f}"  # the smallest subnet
    words = [job, "--store", store.url, "--budget", budget, "--prefer", "seg=3,depth=1"]
    answer = CliRunner().invoke(app, ["control", *words, "--format", "json"])
    assert answer.exit_code == 0, answer.output
    (told,) = json.loads(answer.stdout)
    assert told["source"] == "predicted"
    assert told["metrics"]["macs"] <= parse_limit(budget).limit
    done = CliRunner().invoke(app, ["export", *words, "--out", str(tmp_path / "net.onnx")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "net.onnx")
    assert "does not" not in done.stderr
    card = json.loads((tmp_path / "net.json").read_text(encoding="utf-8"))
    assert card["architecture"]["choices"] == told["arch"]
    (row,) = store.evaluations(job, CONTROL)
    assert (row.source, row.split, row.arch.key) == (Source.MEASURED, "test", told["key"])
    assert row.metrics["macs"] == told["metrics"]["macs"]
    assert row.metrics["latency_ms@local"] > 0
    assert measured(store, job, row.arch) == row  # not again
    # The latency of this job's formula, for which the same subnet is the smallest, is none of this machine:
    # the export says by how much it is beyond the budget.
    most = f"latency_ms@local<={table.range_of('latency_ms@local')[0] * 1.0001:.8g}"
    done = CliRunner().invoke(app, ["export", job, "--store", store.url, "--budget", most, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"was predicted to keep {most.partition('<')[0]}" in done.stderr
    assert "% more" in done.stderr
    assert store.events(job)[-1].level == "warning"


def test_the_report_and_the_table_are_printed(searched: tuple[SqlStore, JobId], table: ControlTable) -> None:
    store, job = searched
    report = CliRunner().invoke(app, ["control", job, "--store", store.url, "--report", "--format", "json"])
    assert report.exit_code == 0, report.output
    rows = json.loads(report.stdout)
    assert len(rows) == 3
    for row in rows:
        assert row["hypervolume"] >= 0
        assert row["uniformity"] <= 1
    printed = CliRunner().invoke(app, ["control", job, "--store", store.url, "--budget", "macs<=1e12"])
    assert "error.depth" in printed.stdout
    assert "encoder.0.width" in printed.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "control needs a budget"),
        (["--budget", "macs<=1"], "nearest valid budget is"),
        (["--budget", "size<=1"], "'size' is none"),
        (["--budget", "macs<=1e9", "--prefer", "sge=1"], "did you mean 'seg'"),
        (["--report", "--prefer", "seg=1"], "drop it or --report"),
    ],
)
def test_mistakes_are_said_in_one_line(
    searched: tuple[SqlStore, JobId], table: ControlTable, words: list[str], message: str
) -> None:
    store, job = searched
    result = CliRunner().invoke(app, ["control", job, "--store", store.url, *words])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_job_that_is_not_searched_says_so(searched: tuple[SqlStore, JobId]) -> None:
    store, _ = searched
    with pytest.raises(UserError, match="trained and searched"):
        control_table(store, store.create_job(SPEC))


def test_the_margin_is_a_conformal_bound_where_there_are_enough_subnets() -> None:
    excess = np.random.default_rng(0).permutation(np.linspace(-0.2, 0.18, 39))
    assert margin_of(excess)[0] == pytest.approx(np.sort(excess)[37])  # the 38th of 39: ceil(0.95 * 40)
    assert margin_of(excess)[1] == pytest.approx(np.sqrt(np.mean(excess**2)))
    few = np.array([0.01, -0.04, 0.02])
    assert margin_of(few)[0] == pytest.approx(2 * np.sqrt(np.mean(few**2)))
    assert margin_of(np.array([0.01, 0.01, 0.3]))[0] == pytest.approx(2 * np.sqrt((0.09 + 0.0002) / 3))
    assert margin_of(np.full(50, -0.1))[0] == 0
    # Of further draws from the same distribution, the share that keeps the margin is what is promised, on average.
    rng = np.random.default_rng(1)
    kept = [(rng.normal(0, 0.03, 100) <= margin_of(rng.normal(0, 0.03, 56))[0]).mean() for _ in range(200)]
    assert np.mean(kept) >= 0.94
