"""One small job through the command line: interrupted, resumed, printed, exported, profiled, written out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from nas.core import JobState
from nas.store import SqlStore, open_store

JOB = """\
name: tiny
executor: local
data: {name: scenes, val_fraction: 0.25, options: {images: 32, test_images: 8, size: 16}}
tasks: [seg, depth]
objectives: [error.seg, macs, latency_ms@local]
space: {options: {channels: [8, 8], decoder_channels: 8, widths: [0.5, 1.0], depths: [1, 2], resolutions: [1.0]}}
training: {epochs: 2, batch_size: 8, precision: fp32}
search: {sampler: random, evaluations: 4, batch_size: 4, profile_samples: 3, calibration_images: 8, verify: 1}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(str(tmp_path / "nas.db"))
    yield opened
    opened.close()


def test_a_job_is_interrupted_resumed_and_used(nas: Callable[..., Result], store: SqlStore, tmp_path: Path) -> None:
    Path("tiny.yaml").write_text(JOB)
    url = str(tmp_path / "nas.db")
    run = [sys.executable, "-c", "from nas.cli.app import main; main()", "--store", url, "run", "tiny.yaml"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("train: running")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    job = output.splitlines()[-1]
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == f"job {job} was cancelled; nas resume {job} goes on where it stood"
    assert "Traceback" not in errors
    assert store.job(job).state is JobState.CANCELLED
    assert store.job(job).owner is None

    resumed = nas("resume", "--store", url)
    assert (resumed.exit_code, resumed.stdout) == (0, f"{job}\n"), resumed.output
    assert "verify: done" in resumed.stderr
    assert store.job(job).state is JobState.DONE
    assert nas("resume", "--store", url).exit_code == 0  # nothing is left to do

    points = json.loads(nas("pareto", job, "--store", url, "-f", "json").stdout)
    assert points
    key, limit = points[0]["key"], points[0]["metrics"]["macs"]

    cost = json.loads(nas("profile", job, "--arch", key, "--store", url, "-f", "json").stdout)[0]
    assert (cost["key"], cost["macs"]) == (key, limit)
    assert json.loads(nas("profile", "tiny.yaml", "--arch", "smallest", "-f", "json").stdout)[0]["macs"] <= limit

    study = nas("optuna", job, "--storage", f"sqlite:///{tmp_path}/study.db", "--store", url).stdout.strip()
    import optuna

    loaded = optuna.load_study(study_name=study, storage=f"sqlite:///{tmp_path}/study.db")
    assert len(loaded.trials) == 4

    none = nas("export", job, "--limit", f"macs<={limit - 1:.0f}", "--store", url)
    assert none.exit_code == 2
    assert f"{limit:.6g}" in none.stderr
    assert nas("cancel", job, "--store", url).exit_code == 2  # it has ended
