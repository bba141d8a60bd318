"""The command as a process of its own: what it prints where, and what an interrupt does."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cli_place import Place

from nas.core import JobState, Stage

NAS = [sys.executable, "-c", "from nas.cli.app import main; main()"]


def test_json_goes_through_a_pipe(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_STORE", place.url)
    result = subprocess.run([*NAS, "pareto", "--format", "json"], capture_output=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, b"")
    assert [point["key"] for point in json.loads(result.stdout)] == [arch.key for arch in place.archs[:3]]


def test_a_broken_job_file_is_one_line_on_standard_error(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: x\ntasks: [sge]\nobjectives: [macs, params]\n")
    result = subprocess.run([*NAS, "run", file, "--store", place.url], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: line 2: data 'scenes' has no task 'sge'; did you mean 'seg'? Allowed: seg, depth, normals\n"
    assert [record.id for record in place.store.jobs()] == [place.job]


def test_an_interrupt_ends_the_watching_and_not_the_job(place: Place) -> None:
    job = place.store.create_job(place.store.job(place.job).spec)
    assert place.store.claim(job, "host:1")
    place.store.set_state(job, JobState.RUNNING)
    place.store.start(job, Stage.TRAIN)
    with subprocess.Popen([*NAS, "watch", job, "--store", place.url], stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "train: running\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
    assert place.store.job(job).state is JobState.RUNNING


def test_the_dashboard_serves_until_interrupted(place: Place) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [*NAS, "dashboard", "--port", str(port), "--no-browser", "--store", place.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while not answers(f"http://localhost:{port}/_stcore/health"):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
            again = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert (again.returncode, again.stderr.partition(";")[0]) == (
                2,
                f"error: a port serves one program: {port} is taken",
            )
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
