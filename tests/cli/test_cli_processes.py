"""The command as a process of its own: what it prints where, and what an interrupt does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cli_place import Place

from nas.core import JobState, Stage

NAS = [sys.executable, "-c", "from nas.cli.app import main; main()"]


def test_json_goes_through_a_pipe(place: Place) -> None:
    result = subprocess.run(
        [*NAS, "pareto", "--format", "json"], capture_output=True, env={**os.environ, "NAS_STORE": place.url}, timeout=60
    )
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
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
    assert place.store.job(job).state is JobState.RUNNING
