"""Items given to workers: one each, again where a worker died, and an item's own error is its result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from nas.core import ArchConfig, CancelledError, ClusterLostError, CrashError, DataError, OutOfMemoryError, WorkerError
from nas.service import pool as pools
from nas.service.pool import ATTEMPTS, Pool, ask, reason, result_of

ARCHS = [ArchConfig({"index": index}) for index in range(6)]


class Thread:
    """A worker in a thread of its own, told beforehand how many calls it lives."""

    def __init__(self, method: Callable[[Any], Any], lives: int) -> None:
        self._method, self._lives = method, lives
        self.stopped = False

    def call(self, name: str, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if self._lives == 0:
                future.set_exception(WorkerError("it died"))
                return
            self._lives -= 1
            try:
                future.set_result(self._method(*args))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=work).start()
        return future

    def stop(self) -> None:
        self.stopped = True


class Factory:
    """Makes workers; each of the first ones lives as many calls as `lives` says, later ones for ever."""

    def __init__(self, method: Callable[[Any], Any], lives: list[int]) -> None:
        self.made: list[Thread] = []
        self._method, self._lives = method, lives

    def __call__(self) -> Thread:
        number = len(self.made)
        self.made.append(Thread(self._method, self._lives[number] if number < len(self._lives) else 1000))
        return self.made[-1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "PATIENCE_S", 0.0)


def go_on() -> None:
    """The job is not cancelled."""


def test_every_item_comes_back_once_with_its_result_from_as_many_workers_as_allowed() -> None:
    factory = Factory(lambda arch: arch["index"] ** 2, [])
    pool = Pool(factory, 2, go_on)
    found = list(pool.run("square", ARCHS))
    assert sorted((arch["index"], value) for arch, value in found) == [(i, i * i) for i in range(6)]
    assert len(list(pool.run("square", ARCHS))) == 6
    assert len(factory.made) == 2  # they are kept for the next items
    pool.close()
    assert all(worker.stopped for worker in factory.made)


def test_a_worker_that_dies_is_replaced_and_its_item_given_out_again() -> None:
    calls: list[int] = []

    def method(arch: ArchConfig) -> int:
        calls.append(int(arch["index"]))
        return calls[-1]

    factory = Factory(method, [2, 0, 1])
    found = [value for _, value in Pool(factory, 1, go_on).run("note", ARCHS)]
    assert sorted(found) == sorted(calls) == list(range(6))
    assert [worker.stopped for worker in factory.made] == [True, True, True, False]


def test_workers_that_die_of_one_item_are_an_error() -> None:
    factory = Factory(lambda arch: 0, [0] * 100)
    with pytest.raises(WorkerError, match="it died"):
        list(Pool(factory, 1, go_on).run("note", ARCHS))
    assert len(factory.made) == ATTEMPTS
    assert all(worker.stopped for worker in factory.made)


def test_an_items_own_error_is_its_result() -> None:
    def method(arch: ArchConfig) -> int:
        if arch["index"] == 3:
            raise ValueError("three is odd\nin two lines")
        return 0

    found = {arch["index"]: result for arch, result in Pool(Factory(method, []), 1, go_on).run("note", ARCHS)}
    assert isinstance(found.pop(3), ValueError)
    assert found == dict.fromkeys((0, 1, 2, 4, 5), 0)
    assert reason(ValueError("three is odd\nin two lines")) == "ValueError: three is odd"
    assert reason(DataError("no such file")) == "no such file"


def test_a_cancelled_job_ends_the_workers() -> None:
    inside, leave = threading.Event(), threading.Event()

    def method(arch: ArchConfig) -> None:
        inside.set()
        leave.wait(10)

    def check() -> None:
        if inside.is_set():
            raise CancelledError("enough")

    factory = Factory(method, [])
    with pytest.raises(CancelledError):
        list(Pool(factory, 2, check).run("wait", ARCHS))
    leave.set()
    assert all(worker.stopped for worker in factory.made)


def test_one_question_is_asked_again_where_the_worker_dies() -> None:
    factory = Factory(lambda: 42, [0, 0])
    assert ask(factory, "answer", go_on) == 42
    assert [worker.stopped for worker in factory.made] == [True, True, True]
    with pytest.raises(WorkerError):
        ask(Factory(lambda: 42, [0] * 100), "answer", go_on)


class Fatal(Factory):
    """Makes workers whose calls end with the next one of some errors, and then with a result."""

    def __init__(self, errors: list[Exception]) -> None:
        left = iter(errors)

        def method(arch: ArchConfig) -> str:
            if error := next(left, None):
                raise error
            return "alive"

        super().__init__(method, [])


def test_a_second_death_by_a_signal_ends_the_job_with_what_to_try() -> None:
    died = CrashError("killed by signal 11 (SIGSEGV) in evaluate")
    assert list(Pool(Fatal([died]), 1, go_on).run("evaluate", ARCHS[:1])) == [(ARCHS[0], "alive")]
    with pytest.raises(CrashError, match=r"^a worker was killed by signal 11 .* in evaluate, 2 times; try it with ONEDNN_MAX"):
        list(Pool(Fatal([died, died]), 1, go_on).run("evaluate", ARCHS))

    def dying() -> None:
        raise died

    with pytest.raises(CrashError, match="2 times; try"):
        ask(lambda: Thread(dying, 1), "evaluate", go_on)


def test_too_little_memory_is_met_once_more_alone_and_then_is_the_items_result() -> None:
    full = OutOfMemoryError("out of memory: 20 GiB")
    factory = Fatal([full])
    found = list(Pool(factory, 3, go_on).run("evaluate", ARCHS))
    assert dict(found) == dict.fromkeys(ARCHS, "alive")
    assert any(worker.stopped for worker in factory.made)  # what it held is free
    found = list(Pool(Fatal([full, full]), 1, go_on).run("evaluate", ARCHS[:2]))
    [failed] = [result for _, result in found if isinstance(result, Exception)]
    assert str(failed).startswith("out of memory: 20 GiB; try smaller training.batch_size")
    assert [result for _, result in found if result == "alive"]


def test_what_runs_the_workers_is_looked_at_before_a_death_counts() -> None:
    def gone() -> None:
        if factory.made:
            raise ClusterLostError("Ray died (raylet)")

    factory = Factory(lambda arch: 0, [0] * 100)
    with pytest.raises(ClusterLostError):
        list(Pool(factory, 1, gone).run("note", ARCHS))
    with pytest.raises(ClusterLostError):
        ask(factory, "note", gone)


def test_nobody_waits_for_an_answer_of_a_cluster_that_is_gone() -> None:
    looked = iter(range(3))

    def gone() -> None:
        if next(looked, None) is None:
            raise ClusterLostError("Ray died (gcs_server)")

    with pytest.raises(ClusterLostError):
        result_of(Future(), gone)
