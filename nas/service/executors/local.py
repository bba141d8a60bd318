"""Everything in this process, one call after the other: for debugging, notebooks, and machines without Ray."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from nas.core import NasError, WorkerError
from nas.core.cores import usable_cores
from nas.service.executors.deaths import out_of_memory
from nas.service.executors.executor import Report, Row
from nas.service.executors.halving import Halving, Rungs


class _Stopped(BaseException):
    """Ends a run from within what it reports to; no error, so that no run takes it for one."""


class LocalWorker:
    """An object of this process.

    Args:
        kind: Its class.
        args: Of the constructor, which runs at the first call.
    """

    def __init__(self, kind: type, args: tuple[Any, ...]) -> None:
        self._make = functools.partial(kind, *args)
        self._object: Any = None

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Run the method now and return its result as a finished future."""
        future: Future[Any] = Future()
        try:
            if self._object is None:
                self._object = self._make()
            future.set_result(getattr(self._object, method)(*args))
        except Exception as error:  # the caller meets it where it asks for the result
            future.set_exception(out_of_memory(error) or error)
        return future

    def stop(self) -> None:
        """Forget the object."""
        self._object = None


class LocalExecutor:
    """See `Executor`."""

    concurrent = False

    def __init__(self) -> None:
        self.cores = usable_cores()

    @property
    def gpus(self) -> int:
        """See `Executor`."""
        import torch  # most executors are never asked

        return torch.cuda.device_count()

    def check(self) -> None:
        """See `Executor`; this process is here."""

    def worker(self, kind: type, *args: Any, cpus: float = 1, gpus: float = 0, resource: str | None = None) -> LocalWorker:
        """See `Executor`; resources are whatever this machine has."""
        return LocalWorker(kind, args)

    def trials(
        self,
        train: Callable[[Row, Report], None],
        configs: Sequence[Mapping[str, Any]],
        on_report: Report,
        folder: Path,
        cpus: float = 1,
        gpus: float = 0,
        halving: Halving | None = None,
    ) -> None:
        """See `Executor`; the runs follow each other."""
        rungs = Rungs(halving) if halving else None
        for config in configs:

            def report(row: Row, name: str = config["name"]) -> None:
                on_report({**row, "name": name})
                if rungs and not rungs.goes_on(name, row):
                    raise _Stopped

            try:
                train(dict(config), report)
            except _Stopped:
                continue
            except NasError:
                raise
            except Exception as error:
                raise WorkerError(f"a training run failed: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing to end."""
