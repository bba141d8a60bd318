"""kill -9 of the driver, and of a worker, in the middle of each stage: the job ends, nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from tiny_job import Audit, tiny_spec, until

from nas.core import DataSpec, JobId, JobSpec, JobState, SearchSpec, Stage, StageState, TrainingSpec
from nas.store import SqlStore, open_store

EPOCHS = 4
SPEC = tiny_spec(
    executor="ray",
    data=DataSpec("scenes", options={"images": 64, "test_images": 16, "size": 32}, val_fraction=0.25),
    training=TrainingSpec(epochs=EPOCHS, batch_size=8, precision="fp32", twins=True, twin_epochs=2, workers=2),
    search=SearchSpec("random", evaluations=12, batch_size=4, profile_samples=16, calibration_images=32, verify=2),
)
NAS = [sys.executable, "-c", "from nas.cli.app import main; main()"]
WORKERS = {  # in the order in which they are killed
    Stage.TRAIN: "ray::TrainWorker",
    Stage.PROFILE: "ray::ProfileWorker",
    Stage.TWINS: "ray::ImplicitFunc",
    Stage.SEARCH: "ray::EvalWorker",
    Stage.VERIFY: "ray::EvalWorker",
}


@dataclass
class Place:
    """A store with an audited job."""

    store: SqlStore
    job: JobId
    audit: Audit

    @classmethod
    def made(cls, folder: Path, spec: JobSpec) -> Place:
        """Make a store in a folder with a job that waits."""
        store = open_store(str(folder / "nas.db"))
        return cls(store, store.create_job(spec), Audit(folder / "nas.db"))

    def middle(self, stage: Stage) -> bool:
        """Return whether some of a stage is done and some is not."""
        found = self.store.stages(self.job)[stage]
        assert found.state is not StageState.DONE, f"{stage} was over before anything could be killed in it"
        return found.state is StageState.RUNNING and 0 < found.done < found.total


def assert_nothing_lost_or_done_twice(place: Place) -> None:
    store, job = place.store, place.job
    assert store.job(job).state is JobState.DONE
    stages = set(Stage) - {Stage.SENSITIVITY}  # of jobs that search precisions
    assert {stage: record.state for stage, record in store.stages(job).items()} == dict.fromkeys(stages, StageState.DONE)

    rows = store.evaluations(job)
    assert not any(row.failure for row in rows)
    assert Counter(row.stage for row in rows) == {"search": SPEC.search.evaluations, "verify": SPEC.search.verify}
    assert place.audit.count("evaluations") == Counter((row.stage, row.arch.key) for row in rows)
    assert max(place.audit.count("evaluations").values()) == 1
    assert {row.checkpoint for row in rows} == {store.stages(job)[Stage.TRAIN].result["checkpoint"]}

    profiles = store.profiles(job)
    assert len(profiles) == SPEC.search.profile_samples
    assert place.audit.count("profiles") == Counter((row.device, row.arch.key) for row in profiles)

    # No epoch that was reported was trained again, the supernet's or a twin's.
    assert max(place.audit.count("curve_points").values()) == 1
    steps = [step for step, _ in store.curves(job)["loss.seg"]]
    assert steps == [steps[0] * (epoch + 1) for epoch in range(EPOCHS)]
    assert set(store.stages(job)[Stage.TWINS].result["test"]) >= {"error.seg", "error.depth"}
    assert all("error.seg" in row.metrics for row in rows)
    assert not list(store.folder(job).glob("work-*"))


@pytest.mark.slow
def test_the_driver_is_killed_in_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each driver goes on where its predecessor died; what was there stays as it was."""
    monkeypatch.setenv("NAS_STORE", str(tmp_path / "nas.db"))
    training = replace(SPEC.training, twin_epochs=8)  # alone on the machine they are fast
    place = Place.made(tmp_path, replace(SPEC, executor="local", training=training))
    store, job = place.store, place.job
    kept = []
    for stage in (Stage.TRAIN, Stage.TWINS, Stage.PROFILE, Stage.SEARCH, Stage.VERIFY):  # as they follow each other
        with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
            until(lambda stage=stage: driver.poll() is not None or place.middle(stage), 240, f"{stage} never began")
            assert driver.poll() is None, driver.stderr and driver.stderr.read()
            driver.kill()
            driver.communicate()
        assert store.stages(job)[stage].state is StageState.RUNNING
        assert f":{driver.pid}@" in (store.job(job).owner or "")
        kept.append((store.evaluations(job), store.profiles(job)))
    last = subprocess.run([*NAS, "resume", job], capture_output=True, text=True, timeout=200)
    assert (last.returncode, last.stdout) == (0, f"{job}\n"), last.stderr
    assert_nothing_lost_or_done_twice(place)
    for evaluations, profiles in kept:
        assert store.evaluations(job)[: len(evaluations)] == evaluations
        assert store.profiles(job)[: len(profiles)] == profiles
    store.close()


@pytest.mark.slow
def test_workers_and_ray_are_killed_and_the_job_goes_on_by_itself(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker dies in each stage, Ray in the search; then the driver dies, and another one ends the job in a cluster."""
    monkeypatch.setenv("NAS_STORE", str(tmp_path / "nas.db"))
    place = Place.made(tmp_path, SPEC)
    store, job = place.store, place.job
    orphans: list[psutil.Process] = []
    with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        for stage in (Stage.TRAIN, Stage.PROFILE, Stage.TWINS, Stage.SEARCH):
            kill_worker(place, stage, driver, orphans)
        until(lambda: driver.poll() is not None or store.stages(job)[Stage.SEARCH].done > 1, 240)
        [raylet] = [each for each in psutil.Process(driver.pid).children() if each.name() == "raylet"]
        raylet.kill()
        until(lambda: driver.poll() is not None or place.middle(Stage.VERIFY), 240, "Ray never came back")
        assert driver.poll() is None, driver.stderr and driver.stderr.read()
        orphans += psutil.Process(driver.pid).children(recursive=True)  # its own Ray, with its workers
        driver.kill()
        driver.communicate()
    monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("ray_address"))
    with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        kill_worker(place, Stage.VERIFY, driver, orphans)
        output, errors = driver.communicate(timeout=200)
    assert (driver.returncode, output) == (0, f"{job}\n"), errors
    assert_nothing_lost_or_done_twice(place)
    warnings = [event.message for event in store.events(job) if event.level == "warning"]
    assert any(message.startswith("a training process failed") for message in warnings)
    assert [message for message in warnings if "Ray" in message] == ["Ray died (raylet); starting again and going on"]
    assert psutil.wait_procs(orphans, timeout=30)[1] == []
    store.close()


def kill_worker(place: Place, stage: Stage, driver: subprocess.Popen[str], orphans: list[psutil.Process]) -> None:
    """Kill a worker of a stage that a driver has taken up, none of those that a killed driver has left."""
    name = WORKERS[stage]
    until(
        lambda: driver.poll() is not None or f":{driver.pid}@" in (place.store.job(place.job).owner or ""),
        60,
        "the driver never took the job",
    )
    found = until(
        lambda: driver.poll() is not None or [worker for worker in titled(below(), (name,)) if worker not in orphans],
        240,
        f"no process is called {name}",
    )
    assert driver.poll() is None, driver.stderr and driver.stderr.read()
    victim = found[0]
    os.kill(victim.pid, signal.SIGKILL)
    assert place.store.stages(place.job)[stage].state is StageState.RUNNING
    until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE, 10)


def below() -> list[psutil.Process]:
    """Return all processes below this one: a cluster's, a driver's."""
    return psutil.Process().children(recursive=True)


def titled(processes: list[psutil.Process], names: tuple[str, ...]) -> list[psutil.Process]:
    """Return those whose title starts with one of `names`."""
    found = []
    for process in processes:
        try:
            if " ".join(process.cmdline()).startswith(names):
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found
