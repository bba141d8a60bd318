"""Items given to workers one at a time each; a worker that dies is replaced and its item given out again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from nas.core import CancelledError, CrashError, NasError, OutOfMemoryError, WorkerError
from nas.service.executors import Worker

ATTEMPTS = 4
CRASHES = 2  # of one item's workers by a signal of their own making: the third would follow
CRASH_REMEDY = "try it with ONEDNN_MAX_CPU_ISA=AVX2 in the environment, or with another version of PyTorch"
MEMORY_REMEDY = "try smaller training.batch_size, search.workers: 1, or a machine with more memory"
PATIENCE_S = 1.0  # between a worker's death and its successor; a lost node takes Ray seconds to notice
Item = TypeVar("Item")  # an architecture to evaluate, or a file to measure


class Pool:
    """Workers of one kind, made when they are needed.

    Args:
        make: Returns a new worker, ready for calls.
        size: Workers at a time.
        check: Called often; raises `CancelledError` where the job is cancelled.
    """

    def __init__(self, make: Callable[[], Worker], size: int, check: Callable[[], None]) -> None:
        self._make, self._size, self._check = make, max(1, size), check
        self._idle: list[Worker] = []
        self._alone = False  # since memory did not suffice for several

    def run(self, method: str, items: Iterable[Item], *args: Any) -> Iterator[tuple[Item, Any]]:
        """Yield each item with what ``worker.method(item, *args)`` returned, as results come.

        Args:
            method: Of the workers.
            items: What to work on.
            args: Given to every call.

        Yields:
            The item and its result. Where the method itself raised (not the worker's death), the result is the exception,
            so that one bad candidate does not end a search. An item for which memory does not suffice is tried once more
            while nothing else runs; then that is its result.

        Raises:
            WorkerError: Workers died on one item several times.
            NasError: See `JobContext.check`.
        """
        waiting = deque((item, 1) for item in items)
        running: dict[Future[Any], tuple[Worker, Item, int]] = {}
        try:
            while waiting or running:
                self._check()
                while waiting and len(running) < self._size:
                    item, attempt = waiting.popleft()
                    worker = self._idle.pop() if self._idle else self._make()
                    running[worker.call(method, item, *args)] = (worker, item, attempt)
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    worker, item, attempt = running.pop(future)
                    error = future.exception()
                    if isinstance(error, OutOfMemoryError):
                        worker.stop()
                        self._check()
                        if self._alone:
                            yield item, OutOfMemoryError(f"{error}; {MEMORY_REMEDY}")
                        else:
                            self._alone, self._size = True, 1
                            waiting.append((item, attempt))
                        continue
                    if isinstance(error, WorkerError):
                        worker.stop()
                        self._check()
                        if attempt == ATTEMPTS:
                            raise error
                        if isinstance(error, CrashError) and attempt == CRASHES:
                            raise crashed_again(error)
                        time.sleep(PATIENCE_S)
                        waiting.appendleft((item, attempt + 1))
                        continue
                    self._idle.append(worker)
                    if isinstance(error, CancelledError) or (error is not None and not isinstance(error, Exception)):
                        raise error
                    yield item, future.result() if error is None else error
        finally:
            for worker, _, _ in running.values():
                worker.stop()

    def one(self, method: str, item: Any, *args: Any) -> Any:
        """Return what a worker answers for one item.

        Raises:
            Exception: Whatever the method raised, besides what `run` raises.
        """
        ((_, result),) = self.run(method, [item], *args)
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """End the workers."""
        for worker in self._idle:
            worker.stop()
        self._idle.clear()


def ask(make: Callable[[], Worker], method: str, check: Callable[[], None]) -> Any:
    """Return what a new worker answers to one call; where it dies, another one is asked, as `Pool` does it.

    Raises:
        WorkerError: Workers died several times.
        CancelledError: The job was cancelled.
    """
    for attempt in range(1, ATTEMPTS + 1):
        worker = make()
        try:
            return result_of(worker.call(method), check)
        except WorkerError as error:
            check()
            if attempt == ATTEMPTS or isinstance(error, OutOfMemoryError):
                raise
            if isinstance(error, CrashError) and attempt == CRASHES:
                raise crashed_again(error) from error
            time.sleep(PATIENCE_S)
        finally:
            worker.stop()
    raise AssertionError("the last attempt returns or raises")


def result_of(future: Future[Any], check: Callable[[], None]) -> Any:
    """Return a future's result, looking now and then whether the job was cancelled."""
    while not future.done():
        check()
        wait([future], timeout=0.5)
    return future.result()


def crashed_again(error: CrashError) -> CrashError:
    """Return the error of a second death by a signal, with what to try."""
    return CrashError(f"a worker was {error}, {CRASHES} times; {CRASH_REMEDY}, then nas resume")


def reason(error: Exception) -> str:
    """Return why a candidate failed, in one line for the store."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return line if isinstance(error, NasError) else f"{type(error).__name__}: {line}"
