"""What `nas.core.Store` promises, on both dialects."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from nas.core import (
    ArchConfig,
    Artifact,
    CurvePoint,
    Evaluation,
    Fingerprint,
    JobSpec,
    JobState,
    Latency,
    LostLeaseError,
    NotFoundError,
    PredictorReport,
    Profile,
    QuantizationSpec,
    Source,
    Stage,
    StageState,
    Store,
    TrainingSpec,
)
from nas.store import SqlStore
from nas.store.models import Base, JobRow
from nas.store.transactions import job_row

ARCH = ArchConfig({"width": 0.5, "depth": 2, "kind": "größe"})
MEASURED = Evaluation(ARCH, {"error.seg": 0.25, "macs": 1e6}, Source.MEASURED, "search", "val")
LATENCY = Latency(1.5, 0.1, 0.01, 1.4, 1.3, 1.5, 1.9, 100, False)
FINGERPRINT = Fingerprint("Some CPU", 4, "1.32.0", "CPUExecutionProvider", 1)
PROFILE = Profile(ARCH, "local", FINGERPRINT, LATENCY, {"macs": 1e6, "params": 10.0})


def number(index: int) -> ArchConfig:
    return ArchConfig({"index": index})


def set_row(store: SqlStore, job: str, change: Callable[[JobRow], None]) -> None:
    with store.write() as session:
        change(job_row(session, job))


def test_it_is_a_store(store: SqlStore) -> None:
    checked: Store = store
    assert all(hasattr(checked, name) for name in vars(Store) if not name.startswith("_"))


class TestJobs:
    def test_a_new_job_is_queued_and_has_its_folder(self, store: SqlStore, spec: JobSpec) -> None:
        before = datetime.now(UTC)
        job = store.create_job(spec)
        record = store.job(job)
        assert (record.id, record.spec, record.state) == (job, spec, JobState.QUEUED)
        assert before <= record.created <= datetime.now(UTC)
        assert record.created.tzinfo is UTC
        assert (record.started, record.ended, record.owner, record.heartbeat, record.error) == (None,) * 5
        assert len(job) == 8
        assert job.isalnum()
        assert record.folder.is_dir()
        assert record.folder == store.folder(job)

    def test_the_folder_is_made_again_where_it_went(self, store: SqlStore, job: str) -> None:
        store.job(job).folder.rmdir()
        assert store.folder(job).is_dir()

    def test_the_newest_comes_first_and_is_the_latest(self, store: SqlStore, spec: JobSpec) -> None:
        ids = [store.create_job(replace(spec, name=f"job {i}")) for i in range(3)]
        assert [record.id for record in store.jobs()] == ids[::-1]
        assert store.job("latest").id == ids[-1]
        assert store.jobs()[0] == store.job(ids[-1])

    def test_a_job_is_found_by_the_start_of_its_id(self, store: SqlStore, spec: JobSpec) -> None:
        ids = [store.create_job(spec) for _ in range(31)]  # one more than there are letters: two begin alike
        alike = 0
        for start in {job[:length] for job in ids for length in (1, 2, 8)}:
            fitting = [job for job in ids if job.startswith(start)]
            if len(fitting) == 1:
                assert store.job(f" {start.upper()} ").id == fitting[0]
            else:
                alike += 1
                with pytest.raises(NotFoundError, match=rf"{start!r} fits {', '.join(fitting[:-21:-1])}; write more"):
                    store.job(start)
        assert alike
        for nothing in ("%", "_", f"{ids[0]}x", "l"):
            with pytest.raises(NotFoundError, match="is none"):
                store.job(nothing)

    def test_no_job_yet(self, store: SqlStore) -> None:
        assert store.jobs() == []
        with pytest.raises(NotFoundError, match="no job yet"):
            store.job("latest")

    def test_states_stamp_start_and_end(self, store: SqlStore, job: str) -> None:
        store.set_state(job, JobState.RUNNING)
        running = store.job(job)
        assert running.state is JobState.RUNNING
        assert running.started is not None
        assert running.ended is None
        store.set_state(job, JobState.FAILED, "a\0b and ü")
        failed = store.job(job)
        assert failed.started == running.started
        assert failed.ended is not None
        assert failed.ended >= running.started
        assert failed.error == "a\\x00b and ü"
        store.set_state(job, JobState.RUNNING)
        again = store.job(job)
        assert (again.started, again.ended, again.error) == (running.started, None, None)
        store.set_state(job, JobState.DONE)
        done = store.job(job)
        store.set_state(job, JobState.DONE)
        assert store.job(job) == done

    @pytest.mark.parametrize(("age_s", "shown"), [(28, JobState.RUNNING), (31, JobState.INTERRUPTED)])
    def test_a_running_job_that_is_silent_is_interrupted(self, store: SqlStore, job: str, age_s: int, shown: JobState) -> None:
        store.claim(job, "host:1")
        store.set_state(job, JobState.RUNNING)
        set_row(store, job, lambda row: setattr(row, "heartbeat", datetime.now(UTC) - timedelta(seconds=age_s)))
        assert store.job(job).state is shown
        assert store.jobs()[0].state is shown
        with store.read() as session:
            assert job_row(session, job).state == "running"  # nothing was written

    def test_silence_counts_in_every_state_that_has_a_driver(self, store: SqlStore, spec: JobSpec) -> None:
        old = datetime.now(UTC) - timedelta(hours=1)
        live = dict.fromkeys((JobState.QUEUED, JobState.RUNNING), JobState.INTERRUPTED)
        live[JobState.CANCELLING] = JobState.CANCELLED  # so that whoever waits for it does not wait for ever
        for state in JobState:
            job = store.create_job(spec)
            store.set_state(job, state)
            assert store.job(job).state is state
            set_row(store, job, lambda row: setattr(row, "heartbeat", old))
            assert store.job(job).state is live.get(state, state)

    def test_a_job_that_nobody_ever_drove_is_interrupted(self, store: SqlStore, job: str) -> None:
        set_row(store, job, lambda row: setattr(row, "created", datetime.now(UTC) - timedelta(seconds=31)))
        assert store.job(job).state is JobState.INTERRUPTED

    def test_a_state_moves_from_what_is_expected_only(self, store: SqlStore, job: str) -> None:
        assert store.set_state(job, JobState.DONE, expected=[JobState.QUEUED])
        before = store.job(job)
        assert not store.set_state(job, JobState.CANCELLING, "too late", expected=[JobState.RUNNING, JobState.QUEUED])
        assert store.job(job) == before
        assert store.set_state(job, JobState.DONE, expected=[])  # it is there already

    def test_of_an_end_and_a_cancellation_at_once_one_holds(self, store: SqlStore, spec: JobSpec) -> None:
        running = [JobState.RUNNING]
        for _ in range(5):
            job = store.create_job(spec)
            store.set_state(job, JobState.RUNNING)
            with ThreadPoolExecutor(2) as threads:
                ends = [
                    threads.submit(store.set_state, job, state, None, running) for state in (JobState.DONE, JobState.CANCELLING)
                ]
            assert sum(end.result() for end in ends) == 1


class TestDriver:
    def test_one_driver_at_a_time(self, store: SqlStore, job: str) -> None:
        lease = store.claim(job, "host:1")
        assert lease is not None
        assert store.job(job).owner == "host:1"
        assert store.job(job).heartbeat is not None
        assert store.claim(job, "host:2") is None
        assert store.claim(job, "host:1") is not None
        lease.release()
        assert store.job(job).owner is None
        assert store.claim(job, "host:2") is not None

    def test_a_silent_driver_loses_its_job(self, store: SqlStore, job: str) -> None:
        store.claim(job, "host:1")
        silent(store, job)
        assert store.claim(job, "host:2") is not None
        assert store.job(job).owner == "host:2"

    def test_a_driver_that_is_known_to_be_dead_loses_its_job_at_once(self, store: SqlStore, job: str) -> None:
        store.claim(job, "host:1")
        assert store.claim(job, "host:3", instead_of="host:2") is None
        assert store.claim(job, "host:2", instead_of="host:1") is not None

    def test_of_many_claims_at_once_one_holds(self, store: SqlStore, job: str) -> None:
        with ThreadPoolExecutor(8) as threads:
            claimed = list(threads.map(lambda i: store.claim(job, f"host:{i}") is not None, range(8)))
        assert sum(claimed) == 1
        assert store.job(job).owner == f"host:{claimed.index(True)}"

    def test_a_heartbeat_tells_of_a_cancellation(self, store: SqlStore, job: str) -> None:
        lease = store.claim(job, "host:1")
        assert lease is not None
        store.set_state(job, JobState.RUNNING)
        assert lease.heartbeat() is JobState.RUNNING
        store.set_state(job, JobState.CANCELLING)
        first = store.job(job).heartbeat
        assert lease.heartbeat() is JobState.CANCELLING
        second = store.job(job).heartbeat
        assert first is not None
        assert second is not None
        assert second > first

    def test_every_write_renews_the_lease(self, store: SqlStore, job: str) -> None:
        lease = store.claim(job, "host:1")
        assert lease is not None
        silent(store, job)
        lease.progress(job, Stage.TRAIN, 1, 2, "steps")
        assert store.claim(job, "host:2") is None

    def test_a_driver_that_lost_its_job_writes_nothing_more(self, store: SqlStore, job: str) -> None:
        lost = store.claim(job, "host:1")
        assert lost is not None
        silent(store, job)
        assert store.claim(job, "host:2") is not None
        before = everything(store)
        for name, call in CALLS.items():
            if name in WRITES:
                with pytest.raises(LostLeaseError, match=f"has taken {job} over"):
                    call(lost, job)  # type: ignore[arg-type]
        for call in (lost.heartbeat, lambda: lost.reference_ms("local", "c" * 16, 1.0), lambda: lost.folder(job)):
            with pytest.raises(LostLeaseError):
                call()
        lost.release()  # not the other one's claim
        assert everything(store) == before
        assert lost.job(job).owner == "host:2"  # it may read

    def test_a_lease_is_not_that_of_a_former_claim_of_the_same_process(self, store: SqlStore, job: str) -> None:
        first = store.claim(job, "host:1/a")
        assert first is not None
        first.release()
        assert store.claim(job, "host:1/b") is not None
        with pytest.raises(LostLeaseError):
            first.heartbeat()


def silent(store: SqlStore, job: str) -> None:
    """Let the driver be silent for half a minute."""
    set_row(store, job, lambda row: setattr(row, "heartbeat", datetime.now(UTC) - timedelta(seconds=31)))


def everything(store: SqlStore) -> dict[str, list[object]]:
    """Return every row of every table."""
    with store.read() as session:
        return {table.name: list(session.execute(table.select())) for table in Base.metadata.sorted_tables}


class TestStages:
    def test_stages_wait_in_the_order_in_which_they_run(self, store: SqlStore, spec: JobSpec) -> None:
        plain = store.stages(store.create_job(spec))
        assert list(plain) == [stage for stage in Stage if stage not in (Stage.TWINS, Stage.SENSITIVITY)]
        asked = replace(spec, training=TrainingSpec(twins=True), quantization=QuantizationSpec(search=True))
        every = store.stages(store.create_job(asked))
        assert list(every) == list(Stage)
        assert {record.state for record in every.values()} == {StageState.WAITING}

    def test_a_stage_from_start_to_end(self, store: SqlStore, job: str) -> None:
        store.start(job, Stage.TRAIN)
        store.progress(job, Stage.TRAIN, 3, 10, "steps", "epoch 1")
        running = store.stages(job)[Stage.TRAIN]
        assert (running.state, running.done, running.total, running.unit, running.note) == (
            StageState.RUNNING,
            3,
            10,
            "steps",
            "epoch 1",
        )
        assert running.started is not None
        result = {"tau": math.inf, "none": None, "list": [1, 2.5, "ü"], "count": np.int64(3), "array": np.arange(2)}
        store.finish(job, Stage.TRAIN, result)
        done = store.stages(job)[Stage.TRAIN]
        assert (done.state, done.done, done.total, done.note) == (StageState.DONE, 10, 10, "")
        assert done.result == {"tau": math.inf, "none": None, "list": [1, 2.5, "ü"], "count": 3, "array": [0, 1]}
        assert done.ended is not None
        assert done.ended >= running.started

    def test_what_is_done_stays_done(self, store: SqlStore, job: str) -> None:
        store.start(job, Stage.FIT)
        store.finish(job, Stage.FIT, {"rows": 5})
        done = store.stages(job)
        store.start(job, Stage.FIT)
        store.progress(job, Stage.FIT, 0, 7, "steps")
        store.finish(job, Stage.FIT)
        assert store.stages(job) == done

    def test_a_failed_stage_can_start_again(self, store: SqlStore, job: str) -> None:
        store.start(job, Stage.SEARCH)
        store.progress(job, Stage.SEARCH, 4, 8, "candidates")
        store.fail(job, Stage.SEARCH, "the disk is full")
        failed = store.stages(job)[Stage.SEARCH]
        assert (failed.state, failed.note) == (StageState.FAILED, "the disk is full")
        assert failed.ended is not None
        store.start(job, Stage.SEARCH)
        again = store.stages(job)[Stage.SEARCH]
        assert (again.state, again.done, again.note, again.ended) == (StageState.RUNNING, 4, "", None)

    def test_a_stage_the_job_does_not_have(self, store: SqlStore, job: str) -> None:
        with pytest.raises(NotFoundError, match="no stage twins"):
            store.start(job, Stage.TWINS)


def test_the_log_keeps_its_order(store: SqlStore, job: str) -> None:
    messages = [f"line {i} \N{GREEK SMALL LETTER TAU}" for i in range(20)]
    for message in messages:
        store.log(job, message)
    store.log(job, "no surrogate \udcff", "warning")
    events = store.events(job)
    assert [event.message for event in events] == [*messages, "no surrogate \\udcff"]
    assert [event.level for event in events] == ["info"] * 20 + ["warning"]
    assert all(event.time.tzinfo is UTC for event in events)
    assert [event.time for event in events] == sorted(event.time for event in events)


class TestEvaluations:
    def test_the_first_of_equals_stays(self, store: SqlStore, job: str) -> None:
        assert store.add(job, [MEASURED, MEASURED]) == 1
        assert store.add(job, [replace(MEASURED, metrics={"macs": 7.0, "error.seg": 9.0})]) == 0
        assert store.evaluations(job) == [MEASURED]
        assert store.add(job, []) == 0

    def test_what_makes_two_evaluations_different(self, store: SqlStore, spec: JobSpec, job: str) -> None:
        others = [
            replace(MEASURED, arch=number(1)),
            replace(MEASURED, metrics={"error.seg": 0.25}),
            replace(MEASURED, metrics={}, failure="no \0 memory"),
            replace(MEASURED, source=Source.PREDICTED),
            replace(MEASURED, stage="verify"),
            replace(MEASURED, split="test"),
            replace(MEASURED, device="0123456789abcdef"),
        ]
        assert store.add(job, [MEASURED, *others]) == 8
        assert store.add(job, [*others, MEASURED]) == 0
        others[2] = replace(others[2], failure="no \\x00 memory")
        assert store.evaluations(job) == [MEASURED, *others]
        assert store.evaluations(job, "verify") == [others[4]]
        assert store.evaluations(job, "twins") == []
        other_job = store.create_job(spec)
        assert store.evaluations(other_job) == []
        assert store.add(other_job, [MEASURED]) == 1

    def test_numbers_of_every_kind_come_back(self, store: SqlStore, job: str) -> None:
        metrics = {"nan": math.nan, "inf": math.inf, "tiny": 5e-324, "third": 1 / 3, "f32": np.float32(0.1), "count": 3}
        store.add(job, [replace(MEASURED, metrics=metrics, std={"third": 0.1}, checkpoint="abc", seed=2**40)])
        [back] = store.evaluations(job)
        assert math.isnan(back.metrics["nan"])
        assert {name: back.metrics[name] for name in metrics if name != "nan"} == {
            "inf": math.inf,
            "tiny": 5e-324,
            "third": 1 / 3,
            "f32": float(np.float32(0.1)),
            "count": 3.0,
        }
        assert (back.std, back.checkpoint, back.seed) == ({"third": 0.1}, "abc", 2**40)

    def test_what_is_stored_is_json_for_any_parser(self, store: SqlStore, job: str) -> None:
        broken = {"nan": math.nan, "inf": math.inf, "least": -math.inf}
        store.add(job, [replace(MEASURED, metrics=broken, std=broken)])
        store.finish(job, Stage.TRAIN, {"nested": [broken], "array": np.array([math.nan, 1.0])})
        with store.engine.connect() as connection:
            texts = [*connection.execute(text("SELECT metrics, std FROM evaluations")).one()]
            texts += connection.execute(text("SELECT result FROM stages WHERE stage = 'train'")).scalars()
        for stored in texts:
            json.loads(stored, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        nested = {"nan": None, "inf": math.inf, "least": -math.inf}
        assert store.stages(job)[Stage.TRAIN].result == {"nested": [nested], "array": [None, 1.0]}

    def test_what_an_earlier_version_stored_is_read(self, store: SqlStore, job: str) -> None:
        store.add(job, [replace(MEASURED, metrics={"a": 1.0})])
        with store.engine.begin() as connection:
            connection.execute(text('UPDATE evaluations SET metrics = \'{"a": NaN, "b": -Infinity}\''))
        [back] = store.evaluations(job)
        assert math.isnan(back.metrics["a"])
        assert back.metrics["b"] == -math.inf

    def test_an_iterator_that_fails_adds_nothing(self, store: SqlStore, job: str) -> None:
        with pytest.raises(ZeroDivisionError):
            store.add(job, (replace(MEASURED, arch=number(1 // i)) for i in (1, 0)))
        with pytest.raises((TypeError, ValueError)):
            store.add(job, [MEASURED, replace(MEASURED, arch=number(2), metrics={"macs": "many"})])  # type: ignore[dict-item]
        assert store.evaluations(job) == []

    def test_ten_thousand_are_fast(self, store: SqlStore, job: str) -> None:
        rows = [replace(MEASURED, arch=number(i), metrics={"error.seg": i / 7}) for i in range(10_000)]
        start = time.process_time()
        assert store.add(job, rows) == 10_000
        assert store.add(job, rows[-10:]) == 0
        back = store.evaluations(job)
        seconds = time.process_time() - start
        assert back == rows
        assert seconds < 5  # of this process's time: about 1; a transaction for each row would take more than 7


class TestCurves:
    def test_a_repeated_point_is_replaced(self, store: SqlStore, job: str) -> None:
        store.add_curve(job, [CurvePoint("loss.seg", step, 1 / (step + 1)) for step in (0, 10, 2)])
        store.add_curve(job, [CurvePoint("loss.seg", 10, 5.0), CurvePoint("val", 1, 2.0), CurvePoint("val", 1, 3.0)])
        assert store.curves(job) == {"loss.seg": [(0, 1.0), (2, 1 / 3), (10, 5.0)], "val": [(1, 3.0)]}

    def test_a_loss_that_went_wrong_is_kept(self, store: SqlStore, job: str) -> None:
        store.add_curve(job, [CurvePoint("loss", 1, math.nan), CurvePoint("loss", 2, math.inf)])
        (_, first), (_, second) = store.curves(job)["loss"]
        assert math.isnan(first)
        assert second == math.inf
        store.add_curve(job, [])


class TestCosts:
    def test_profiles_are_idempotent(self, store: SqlStore, job: str) -> None:
        noisy = replace(PROFILE, device="pi", latency=replace(LATENCY, noisy=True, spread=math.inf))
        assert store.add_profiles(job, [PROFILE, noisy]) == 2
        assert store.add_profiles(job, [replace(PROFILE, metrics={}), replace(PROFILE, arch=number(1))]) == 1
        assert store.profiles(job) == [PROFILE, noisy, replace(PROFILE, arch=number(1))]
        assert store.add_profiles(job, []) == 0

    def test_the_first_reference_stays(self, store: SqlStore) -> None:
        assert store.reference_ms("local", "a" * 16, 3.25) == 3.25
        assert store.reference_ms("local", "a" * 16, 4.0) == 3.25
        assert store.reference_ms("local", "b" * 16, 4.0) == 4.0
        assert store.reference_ms("pi", "a" * 16, 5.0) == 5.0

    def test_a_predictor_replaces_the_former_one(self, store: SqlStore, job: str) -> None:
        report = PredictorReport("latency_ms@local", "ridge", 30, 10, {"mape": 0.1, "kendall_tau": 0.9}, (1.0, 2.0), (1.1, 1.9))
        memory = replace(report, target="a_first", truth=())
        store.save_predictor(job, report, {"weights": np.array([[1.0, 2.5]])})
        store.save_predictor(job, memory, {})
        store.save_predictor(job, replace(report, kind="gp"), {"weights": [3]})
        assert store.predictors(job) == [(memory, {}), (replace(report, kind="gp"), {"weights": [3]})]


def test_artifacts(store: SqlStore, job: str, tmp_path: Path) -> None:
    weights = Artifact("checkpoint", tmp_path / "a.safetensors", "0" * 64)
    first = Artifact("onnx", tmp_path / "ü.onnx", "1" * 64, ARCH.key, {"opset": 20, "max_difference": 1e-6})
    second = Artifact("onnx", tmp_path / "b.onnx", "2" * 64, "f" * 16)
    for artifact in (weights, first, second, replace(weights, sha256="3" * 64)):
        store.add_artifact(job, artifact)
    weights = replace(weights, sha256="3" * 64)
    assert store.artifacts(job) == [weights, first, second]
    assert store.artifacts(job, "onnx") == [first, second]
    assert store.artifacts(job, key=ARCH.key) == [first]
    assert store.artifacts(job, "checkpoint", ARCH.key) == []


CALLS: dict[str, Callable[[SqlStore, str], object]] = {
    "job": lambda store, job: store.job(job),
    "set_state": lambda store, job: store.set_state(job, JobState.DONE),
    "claim": lambda store, job: store.claim(job, "host:1"),
    "start": lambda store, job: store.start(job, Stage.TRAIN),
    "progress": lambda store, job: store.progress(job, Stage.TRAIN, 1, 2, "steps"),
    "finish": lambda store, job: store.finish(job, Stage.TRAIN),
    "fail": lambda store, job: store.fail(job, Stage.TRAIN, "why"),
    "stages": lambda store, job: store.stages(job),
    "log": lambda store, job: store.log(job, "line"),
    "events": lambda store, job: store.events(job),
    "add": lambda store, job: store.add(job, [MEASURED]),
    "evaluations": lambda store, job: store.evaluations(job),
    "add_curve": lambda store, job: store.add_curve(job, [CurvePoint("a", 1, 1.0)]),
    "curves": lambda store, job: store.curves(job),
    "add_profiles": lambda store, job: store.add_profiles(job, [PROFILE]),
    "profiles": lambda store, job: store.profiles(job),
    "save_predictor": lambda store, job: store.save_predictor(job, PredictorReport("a", "b", 1, 1, {}), {}),
    "predictors": lambda store, job: store.predictors(job),
    "add_artifact": lambda store, job: store.add_artifact(job, Artifact("onnx", Path("/a"), "0")),
    "artifacts": lambda store, job: store.artifacts(job),
    "folder": lambda store, job: store.folder(job),
}
WRITES = {"set_state", "start", "progress", "finish", "fail", "log", "add", "add_curve", "add_profiles"}
WRITES |= {"save_predictor", "add_artifact"}


def test_an_unknown_job_is_named_by_every_method(store: SqlStore) -> None:
    without_job = {"create_job", "jobs", "reference_ms"}
    assert set(CALLS) == {name for name in vars(Store) if not name.startswith("_")} - without_job
    for call in CALLS.values():
        with pytest.raises(NotFoundError, match="'nosuchid'"):
            call(store, "nosuchid")
