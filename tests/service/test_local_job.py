"""A whole job in one process, without Ray: its rows, Δm, two devices, export, and what an export does when something is off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_job import tiny_spec

from nas.core import (
    ExportError,
    JobId,
    JobState,
    Objective,
    SearchSpec,
    Source,
    Stage,
    StageState,
    TrainingSpec,
    front,
)
from nas.service import api
from nas.service.candidates import file_metrics
from nas.service.exporting import export_arch
from nas.service.job_data import job_data
from nas.service.workers import CHECKPOINT
from nas.store import SqlStore, open_store

SPEC = tiny_spec(
    objectives=(
        Objective("delta_m", "max"),
        Objective("macs"),
        Objective("latency_ms@local"),
        Objective("latency_ms@local-2t"),
    ),
    devices=("local", "local-2t"),
    search=SearchSpec("random", evaluations=4, batch_size=2, profile_samples=3, calibration_images=8, verify=1),
    training=TrainingSpec(epochs=2, batch_size=8, precision="fp32", twins=True, twin_epochs=1),
)


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from test_local_job import SPEC
from nas.service import api
from nas.store import open_store
store = open_store(sys.argv[1])
job = api.create(store, SPEC)
print(job, api.run(store, job))
known = store.profiles(job)[0]
assert api.profile_job(store, job, known.arch.key)["macs"] == known.metrics["macs"]
print("ray" in sys.modules)
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId]]:
    """A finished job, run by a process that never met Ray; the tests that share it change nothing of it."""
    folder = tmp_path_factory.mktemp("local")
    command = [sys.executable, "-c", RUN, str(folder / "nas.db"), str(Path(__file__).parent)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    store = open_store(str(folder / "nas.db"))
    job = store.job("latest").id
    assert made.stdout.splitlines() == [f"{job} done", "False"], made.stderr
    yield store, job
    store.close()


def test_every_stage_ends_and_leaves_its_rows(done: tuple[SqlStore, JobId]) -> None:
    store, job = done
    stages = set(Stage) - {Stage.SENSITIVITY}  # of jobs that search precisions
    assert {stage: record.state for stage, record in store.stages(job).items()} == dict.fromkeys(stages, StageState.DONE)
    searched, verified = store.evaluations(job, "search"), store.evaluations(job, "verify")
    assert (len(searched), len(verified)) == (SPEC.search.evaluations, SPEC.search.verify)
    assert {(row.source, row.split) for row in searched} == {(Source.PREDICTED, "val")}
    assert {(row.source, row.split) for row in verified} == {(Source.MEASURED, "test")}
    assert {row.arch.key for row in verified} <= {row.arch.key for row in searched}
    names = {objective.metric for objective in SPEC.objectives}
    assert all(names <= set(row.metrics) for row in verified)
    assert front(verified, SPEC.objectives)
    assert len(store.profiles(job)) == SPEC.search.profile_samples * 2
    assert {report.target for report, _ in store.predictors(job)} == {"latency_ms@local", "latency_ms@local-2t"}
    assert {row.device and row.device.count(",") for row in verified} == {1}  # a fingerprint of each device
    assert store.job(job).owner is None


def test_delta_m_compares_with_the_twins_on_the_same_split(done: tuple[SqlStore, JobId]) -> None:
    store, job = done
    twins = store.stages(job)[Stage.TWINS].result
    for row in store.evaluations(job):
        alone = twins[row.split]
        seg = (row.metrics["miou.seg"] - alone["miou.seg"]) / alone["miou.seg"]
        depth = (row.metrics["rmse_m.depth"] - alone["rmse_m.depth"]) / alone["rmse_m.depth"]
        assert row.metrics["delta_m"] == pytest.approx(100 * (seg - depth) / 2)


def test_an_export_is_kept_only_if_it_is_what_was_verified(done: tuple[SqlStore, JobId], tmp_path: Path) -> None:
    store, job = done
    row = store.evaluations(job, "verify")[0]
    quiet = replace(row, device=None)  # latencies of a network of microseconds vary too much to be asserted here
    path = export_arch(store, job, quiet, tmp_path / "good")
    kept = store.folder(job) / "candidates" / f"{row.arch.key}.onnx"
    assert path.read_bytes() == kept.read_bytes()  # the very file that was verified
    data = job_data(SPEC)
    own = file_metrics(kept, data, data.test)
    assert own == {name: row.metrics[name] for name in own}
    assert set(own) == {n for n in row.metrics if "." in n and "@" not in n} | {"size_bytes"}
    assert {artifact.kind for artifact in store.artifacts(job, key=row.arch.key)} >= {"onnx", "card"}

    other = replace(quiet, metrics={**row.metrics, "error.depth": row.metrics["error.depth"] * 1.02})
    with pytest.raises(ExportError, match=r"its error\.depth is"):
        export_arch(store, job, other, tmp_path / "bad")
    assert not list(tmp_path.glob("bad/*"))

    verified = kept.read_bytes()
    kept.write_bytes(verified[:-1])  # not the verified one any more: it is made again
    again = export_arch(store, job, quiet, tmp_path / "again")
    kept.write_bytes(verified)
    assert file_metrics(again, data, data.test)["size_bytes"] == own["size_bytes"]

    checkpoint = store.folder(job) / CHECKPOINT
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(ExportError, match="weights that were verified"):
            export_arch(store, job, quiet, tmp_path / "bad")
    finally:
        checkpoint.write_bytes(content)
    assert not list(tmp_path.glob("bad/*"))


def test_a_job_runs_on_postgresql(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_HOME", str(tmp_path))
    store = open_store(postgres_url)
    try:
        spec = tiny_spec(
            search=SearchSpec("random", evaluations=3, batch_size=2, profile_samples=3, calibration_images=8, verify=1)
        )
        job = api.create(store, spec)
        assert api.run(store, job) is JobState.DONE
        assert len(store.evaluations(job, "search")) == spec.search.evaluations
        assert len(front(store.evaluations(job, "verify"), spec.objectives)) > 0
    finally:
        store.close()


def test_threads_that_wait_sleep() -> None:
    """The runtime of torch's threads itself says how they wait."""
    code = "import nas.service.workers"
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={"OMP_DISPLAY_ENV": "true"}
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in made.stderr, made.stderr
