"""How a job ends other than well, and goes on: limits nobody meets, candidates that fail, two drivers, cancellations."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tiny_job import tiny_spec, until

from nas.core import (
    ArchConfig,
    CancelledError,
    DataError,
    JobSpec,
    JobState,
    LostLeaseError,
    NasError,
    Objective,
    SearchSpec,
    Stage,
    StageState,
    UserError,
)
from nas.service import api, owner
from nas.service.lease import leased
from nas.service.owner import new_owner
from nas.service.workers import EvalWorker, TrainWorker
from nas.store import SqlStore, open_store
from nas.store.transactions import job_row
from nas.train.evaluator import SplitName
from nas.train.trainer import EpochReport

SHORT = SearchSpec("random", evaluations=3, batch_size=2, profile_samples=3, calibration_images=8, verify=1)


def test_a_limit_that_no_candidate_keeps_is_said_after_the_search(store: SqlStore) -> None:
    limited = (Objective("error.seg", limit=1e-6), Objective("macs"))
    job = api.create(store, tiny_spec(objectives=limited, search=SHORT))
    with pytest.raises(UserError, match=r"no candidate keeps error.seg<=1e-06: the nearest has .*; loosen the limit"):
        api.run(store, job)
    record = store.job(job)
    assert record.state is JobState.FAILED
    assert (record.error or "").startswith("no candidate keeps error.seg")
    assert store.stages(job)[Stage.VERIFY].state is StageState.FAILED
    assert len(store.evaluations(job, "verify")) == 1  # what was measured is kept, and is not measured again
    with pytest.raises(UserError, match="no candidate keeps"):
        api.run(store, job)
    assert len(store.evaluations(job, "verify")) == 1


def test_a_job_that_meets_a_bad_candidate_a_cancellation_and_a_dead_driver_ends_well(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job for three troubles, as each run takes seconds."""
    evaluate, calls = EvalWorker.evaluate, iter(range(100))

    def troubled(self: EvalWorker, arch: ArchConfig, split: SplitName) -> dict[str, float]:
        call = next(calls)
        if call == 1:
            raise RuntimeError("no such kernel\nand more")
        if call == 2:
            api.cancel(store, job)
            assert store.job(job).state is JobState.CANCELLING
            for _ in range(2):  # two beats of the driver's heart, the first of which may have begun before
                last = store.job(job).heartbeat
                until(lambda last=last: store.job(job).heartbeat != last, 10)
        return evaluate(self, arch, split)

    monkeypatch.setattr("nas.service.lease.HEARTBEAT_S", 0.05)
    monkeypatch.setattr(EvalWorker, "evaluate", troubled)
    job = api.create(store, tiny_spec(search=replace(SHORT, evaluations=5, batch_size=5)))
    with pytest.raises(CancelledError, match=f"nas resume {job}"):
        api.run(store, job)
    assert (store.job(job).state, store.job(job).owner) == (JobState.CANCELLED, None)
    before = store.evaluations(job)
    assert [row.failure for row in before] == ["", "RuntimeError: no such kernel", ""]  # what was under way is kept

    # A driver that died while it was being cancelled; its number belongs to a process that lives, this one.
    assert store.claim(job, new_owner().replace("/", "/1", 1))
    store.set_state(job, JobState.CANCELLING)
    assert api.run(store, job) is JobState.DONE
    assert store.job(job).owner is None
    rows = store.evaluations(job, "search")
    assert rows[:3] == before
    assert len({row.arch.key for row in rows}) == len(rows) == 5
    assert store.stages(job)[Stage.SEARCH].result == {"candidates": 5, "failed": 1}
    assert rows[1].arch.key not in {row.arch.key for row in store.evaluations(job, "verify")}


def test_a_job_whose_data_is_gone_fails_with_the_reason(
    store: SqlStore, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    job = api.create(store, replace(spec, data=replace(spec.data, name="python:own_rooms:unreadable", options={})))
    with pytest.raises(DataError, match="disk gone"):
        api.run(store, job)
    assert store.job(job).state is JobState.FAILED
    assert "disk gone" in (store.job(job).error or "")
    assert store.job(job).owner is None


def test_one_driver_runs_a_job(store: SqlStore, spec: JobSpec) -> None:
    job = api.create(store, spec)
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(store.url, job, entered, leave))
    other.start()
    try:
        assert entered.wait(60)
        with pytest.raises(UserError, match=f"is being run by {socket.gethostname()}:{other.pid}; wait for it or cancel it"):
            api.run(store, job)
        assert f":{other.pid}@" in (store.job(job).owner or "")
        assert store.job(job).state is JobState.QUEUED  # the refused one changes nothing
    finally:
        leave.set()
        other.join(30)
    assert other.exitcode == 0


def hold(url: str, job: str, entered: object, leave: object) -> None:
    """Be the job's driver until told to leave."""
    with leased(open_store(url), job):
        entered.set()  # type: ignore[attr-defined]
        leave.wait(60)  # type: ignore[attr-defined]


def test_a_driver_of_another_machine_is_left_alone_until_it_is_silent(store: SqlStore, spec: JobSpec) -> None:
    job = api.create(store, spec)
    assert store.claim(job, "elsewhere:1")
    store.set_state(job, JobState.RUNNING)
    with pytest.raises(UserError, match="elsewhere:1"):
        api.run(store, job)
    api.cancel(store, job)
    assert store.job(job).state is JobState.CANCELLING


def test_a_job_cancelled_before_its_first_stage_does_not_run(store: SqlStore, spec: JobSpec) -> None:
    job = api.submit(store, spec)
    [driver] = [process for process in psutil.Process().children() if job in process.cmdline()]
    assert store.job(job).owner  # it has the job before it has loaded what takes seconds
    api.cancel(store, job)
    driver.wait(60)
    assert (store.job(job).state, store.job(job).owner) == (JobState.CANCELLED, None)
    assert {record.state for record in store.stages(job).values()} == {StageState.WAITING}


def test_a_done_job_does_not_go_on_in_the_background(store: SqlStore, spec: JobSpec) -> None:
    job = api.create(store, spec)
    store.set_state(job, JobState.DONE)
    with pytest.raises(UserError, match="is done"):
        api.resume_in_background(store, job)
    with pytest.raises(UserError, match="is done"):
        api.cancel(store, job)


def test_a_driver_that_slept_while_another_one_finished_the_job_writes_nothing(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with SIGSTOP for a minute, between two lines of its training process."""
    run_epoch, slept = TrainWorker.run_epoch, []

    def sleepy(self: TrainWorker) -> EpochReport:
        report = run_epoch(self)
        if not slept:
            slept.append(self)
            with store.write() as session:
                job_row(session, job).heartbeat -= timedelta(seconds=31)
            monkeypatch.setattr(owner, "machine", lambda: "elsewhere")  # the other one cannot see this process
            assert api.run(store, job) is JobState.DONE
            slept.append(everything(store.folder(job)))
            with pytest.raises(FileNotFoundError):
                run_epoch(self)  # its checkpoint finds no folder any more
        return report

    monkeypatch.setattr(TrainWorker, "run_epoch", sleepy)
    job = api.create(store, tiny_spec(search=SHORT))
    with pytest.raises(LostLeaseError, match=f"has taken {job} over"):
        api.run(store, job)
    assert store.job(job).state is JobState.DONE
    assert [event.message for event in store.events(job)].count("done") == 1
    assert len(store.evaluations(job, "search")) == SHORT.evaluations
    assert everything(store.folder(job)) == slept[1]
    assert not list(store.folder(job).glob("work-*"))


def everything(folder: Path) -> dict[Path, bytes]:
    """Return every file of a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_submitted_job_runs_beside_modules_of_our_names_and_ends_honestly_when_it_is_terminated(
    store: SqlStore, spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    for name in ("predictors", "dashboard", "hw_profiles", "search_spaces"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("")
    monkeypatch.chdir(project)
    job = api.submit(store, replace(spec, training=replace(spec.training, epochs=500)))
    [driver] = [process for process in psutil.Process().children() if job in process.cmdline()]
    with pytest.raises(UserError, match=f"is being run by .*:{driver.pid};"):
        api.resume_in_background(store, job)
    until(lambda: store.stages(job)[Stage.TRAIN].done > 0 or not driver.is_running(), 120)
    driver.terminate()
    driver.wait(60)
    assert (store.job(job).state, store.job(job).owner) == (JobState.INTERRUPTED, None)
    assert store.events(job)[-1].message == "the driver was told to end (SIGTERM)"
    api.cancel(store, job)
    assert store.job(job).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            "import os, sys; print('\\nOSError: no locks here', file=sys.stderr, flush=True); os._exit(1)",
            "OSError: no locks here",
        ),
        ("import os; os._exit(3)", "exit code 3"),
    ],
)
def test_a_driver_that_ends_at_once_fails_the_job_with_its_last_line(
    store: SqlStore, spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, said: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(trouble)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = api.create(store, spec)
    (store.folder(job) / "driver.log").write_text("a line of a former driver\n")
    with pytest.raises(NasError, match=f"the driver of job {job} ended at once: {said}; see .*driver.log"):
        api.resume_in_background(store, job)
    assert (store.job(job).state, store.job(job).error) == (JobState.FAILED, f"the driver ended at once: {said}")


def test_a_driver_that_cannot_be_loaded_fails_the_job(
    store: SqlStore, spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with contextlib.suppress(NasError):  # where the driver ends before it is seen to live, submitting says so at once
        api.submit(store, spec)
    job = store.job("latest").id
    until(lambda: store.job(job).state is JobState.FAILED, 60)
    assert "ModuleNotFoundError" in (store.job(job).error or "")


def test_a_cancellation_that_comes_as_the_job_ends_is_refused_or_holds(store: SqlStore, spec: JobSpec) -> None:
    job = api.create(store, spec)
    lease = store.claim(job, new_owner())
    assert lease is not None
    lease.set_state(job, JobState.RUNNING)
    api.cancel(store, job)
    assert store.job(job).state is JobState.CANCELLING
    api.cancel(store, job)  # once more changes nothing
    lease.set_state(job, JobState.DONE)  # it was done already
    with pytest.raises(UserError, match="is done"):
        api.cancel(store, job)
    assert store.job(job).state is JobState.DONE
