"""kill -9 of the driver, and of a worker, in the middle of each stage: the job ends, nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tiny_job import Audit, tiny_spec, until

from nas.core import DataSpec, JobId, JobState, SearchSpec, Stage, StageState, TrainingSpec
from nas.store import SqlStore, open_store

EPOCHS = 4
SPEC = tiny_spec(
    executor="ray",
    data=DataSpec("scenes", options={"images": 64, "test_images": 16, "size": 32}, val_fraction=0.25),
    training=TrainingSpec(epochs=EPOCHS, batch_size=8, precision="fp32", twins=True, twin_epochs=2, workers=2),
    search=SearchSpec("random", evaluations=12, batch_size=4, profile_samples=8, calibration_images=32, verify=2),
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

    def middle(self, stage: Stage) -> bool:
        """Return whether some of a stage is done and some is not."""
        found = self.store.stages(self.job)[stage]
        assert found.state is not StageState.DONE, f"{stage} was over before anything could be killed in it"
        return found.state is StageState.RUNNING and 0 < found.done < found.total


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    store = open_store(str(tmp_path / "nas.db"))
    monkeypatch.setenv("NAS_STORE", store.url)
    yield Place(store, store.create_job(SPEC), Audit(tmp_path / "nas.db"))
    store.close()


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
    assert not list(store.folder(job).glob("meeting-*"))


@pytest.mark.slow
def test_the_driver_and_a_worker_are_killed_in_each_stage(
    place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every driver loses a worker in the stage that its predecessor died in, and dies in the next one."""
    store, job = place.store, place.job
    orphans: list[psutil.Process] = []
    kept = []
    former: Stage | None = None
    for stage in WORKERS:
        with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
            if former:
                kill_worker(place, former, driver, orphans)
            until(lambda stage=stage: driver.poll() is not None or place.middle(stage), 240, f"{stage} never began")
            assert driver.poll() is None, driver.stderr and driver.stderr.read()
            orphans += psutil.Process(driver.pid).children(recursive=True)  # its own Ray, with its workers
            orphans += titled(below(), tuple(WORKERS.values()))  # its workers in a cluster
            driver.kill()
            driver.communicate()
        assert store.stages(job)[stage].state is StageState.RUNNING
        assert f":{driver.pid}@" in (store.job(job).owner or "")
        kept.append((store.evaluations(job), store.profiles(job)))
        if former is None:  # that driver had a Ray of its own, as the last one has; the others join a cluster
            monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("ray_address"))
        former = stage
    monkeypatch.delenv("RAY_ADDRESS")
    with subprocess.Popen([*NAS, "resume", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        kill_worker(place, Stage.VERIFY, driver, orphans)
        output, errors = driver.communicate(timeout=200)
    assert (driver.returncode, output) == (0, f"{job}\n"), errors
    assert_nothing_lost_or_done_twice(place)
    for evaluations, profiles in kept:
        assert store.evaluations(job)[: len(evaluations)] == evaluations
        assert store.profiles(job)[: len(profiles)] == profiles
    warnings = [event.message for event in store.events(job) if event.level == "warning"]
    assert any(message.startswith("a training process failed") for message in warnings)
    assert psutil.wait_procs(orphans, timeout=30)[1] == []


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
