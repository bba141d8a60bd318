"""What both executors promise, and what only Ray has: processes that die, and machines that have a device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executor_work
import psutil
import pytest

from nas.core import CancelledError, DataError, DeviceError, WorkerError
from nas.core.cores import usable_cores
from nas.service.executors import Executor, LocalExecutor
from nas.service.executors.halving import Halving

WAIT_S = 120  # for an answer; a busy machine takes long to start a process


@pytest.fixture(scope="module")
def ray_executor(ray_address: str) -> Iterator[Executor]:
    from nas.service.executors.ray import RayExecutor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", ray_address)
        executor = RayExecutor()
        yield executor
        executor.close()


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Any:
    return LocalExecutor() if request.param == "local" else request.getfixturevalue("ray_executor")


def test_a_worker_keeps_its_object_between_calls(executor: Executor) -> None:
    worker = executor.worker(executor_work.Counter, 10)
    assert [worker.call("add", 1).result(WAIT_S), worker.call("add", 2).result(WAIT_S)] == [11, 13]
    worker.stop()


def test_an_error_of_a_method_or_a_constructor_keeps_its_type(executor: Executor) -> None:
    worker = executor.worker(executor_work.Counter, 0)
    with pytest.raises(DataError, match=r"^no such file$"):
        worker.call("fail").result(WAIT_S)
    assert worker.call("add", 1).result(WAIT_S) == 1  # the worker lives on
    worker.stop()
    broken = executor.worker(executor_work.Broken)
    with pytest.raises(DataError, match=r"^not made$"):
        broken.call("add", 1).result(WAIT_S)
    broken.stop()


def test_trials_report_rows_with_their_names(executor: Executor, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    executor.trials(executor_work.two_rows, [{"name": n, "base": i} for i, n in enumerate("ab")], rows.append, tmp_path / "t")
    assert sorted((row["name"], row["value"]) for row in rows) == [("a", 0), ("a", 1), ("b", 1), ("b", 2)]
    assert [row["value"] for row in rows if row["name"] == "b"] == [1, 2]
    assert not (tmp_path / "t").exists()


def test_halving_ends_the_worse_trials_early(executor: Executor, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    mark = str(tmp_path / "mark")
    configs = [{"name": "good", "end": 0.0, "leaves": mark}, {"name": "bad", "end": 3.0, "after": mark}]
    executor.trials(executor_work.falls, configs, rows.append, tmp_path / "t", halving=Halving(first=2, most=8))
    assert {row["name"]: row["epoch"] for row in rows} == {"good": 8, "bad": 2}  # the last row of each
    assert not (tmp_path / "t").exists()


def test_a_trial_that_fails_is_a_worker_error(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="it cannot be"):
        executor.trials(executor_work.fails, [{"name": "a"}], lambda row: None, tmp_path / "t")


def test_a_cancellation_ends_trials(executor: Executor, tmp_path: Path) -> None:
    def on_report(row: dict[str, Any]) -> None:
        raise CancelledError("enough")

    began = time.monotonic()
    with pytest.raises(CancelledError, match="enough"):
        executor.trials(executor_work.endless, [{"name": "a"}], on_report, tmp_path / "t")
    assert time.monotonic() - began < WAIT_S  # it would never end by itself
    assert not (tmp_path / "t").exists()


def test_a_worker_that_dies_is_a_worker_error(ray_executor: Executor) -> None:
    worker = ray_executor.worker(executor_work.Counter, 0)
    process = psutil.Process(worker.call("process").result(WAIT_S))
    assert " ".join(process.cmdline()).startswith("ray::Counter")
    with pytest.raises(WorkerError, match="died"):
        worker.call("die").result(WAIT_S)
    with pytest.raises(WorkerError):
        worker.call("add", 1).result(WAIT_S)
    worker.stop()


def test_a_device_is_a_machine_that_has_its_resource(ray_executor: Executor) -> None:
    near, far = (ray_executor.worker(executor_work.Counter, 0, cpus=0, resource=name) for name in (None, "raspberry-pi-4"))
    import ray

    assert near.call("node").result(WAIT_S) == ray.get_runtime_context().get_node_id()
    assert far.call("node").result(WAIT_S) != near.call("node").result(WAIT_S)
    near.stop()
    far.stop()
    with pytest.raises(DeviceError, match=r"none has 'my-board'.*ray start"):
        ray_executor.worker(executor_work.Counter, 0, resource="my-board")


def test_cores_are_those_of_one_machine(ray_executor: Executor) -> None:
    assert ray_executor.cores == 2
    assert LocalExecutor().cores == usable_cores()
