"""A job on a Ray cluster with the user's own data: submitted, cancelled, resumed, interrupted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_job import tiny_spec, until

from nas.core import DataSpec, JobState, SearchSpec, Stage, StageState, TrainingSpec
from nas.service import api
from nas.store import SqlStore

NAS = [sys.executable, "-c", "from nas.cli.app import main; main()"]
SPEC = tiny_spec(
    executor="ray",
    data=DataSpec("python:my_rooms:rooms", options={"images": 64}),
    training=TrainingSpec(epochs=4, batch_size=8, precision="fp32", twins=True, twin_epochs=20),
    search=SearchSpec("random", evaluations=4, batch_size=4, profile_samples=3, calibration_images=8, verify=1),
)


@pytest.mark.slow
def test_own_data_on_a_cluster_submitted_cancelled_resumed_interrupted(
    store: SqlStore, ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parent / "own_rooms.py", tmp_path / "my_rooms.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    monkeypatch.setenv("NAS_STORE", store.url)
    began = time.monotonic()
    job = api.submit(store, SPEC)
    assert time.monotonic() - began < 20  # at once: not after the job
    until(lambda: store.stages(job)[Stage.TRAIN].done >= 1)
    api.cancel(store, job)
    until(lambda: store.job(job).state is JobState.CANCELLED and store.job(job).owner is None)

    with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        mine = f":{driver.pid}@"  # what a former driver has done must not let the signal come before this one is ready
        until(lambda: driver.poll() is not None or mine in (store.job(job).owner or ""))
        until(lambda: driver.poll() is not None or store.stages(job)[Stage.TWINS].done >= 1)
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate(timeout=60)
    assert (driver.returncode, output) == (130, f"{job}\n"), errors
    assert "Traceback" not in errors
    assert store.job(job).state is JobState.CANCELLED
    assert store.stages(job)[Stage.TWINS].state is not StageState.DONE

    assert not (store.folder(job) / "twins" / "trials").exists()
    assert not list(store.folder(job).glob("meeting-*"))
