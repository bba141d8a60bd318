"""What the stages of a job need of whatever runs their work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from nas.service.executors.halving import Halving

Row = dict[str, Any]
Report = Callable[[Row], None]


class Worker(Protocol):
    """An object that lives in a process of its own (or in this one) and answers calls one at a time."""

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Return the future result of a method.

        The future raises what the method raised, or `WorkerError` where the process died or had too little memory.
        """
        ...

    def stop(self) -> None:
        """End the worker; a call that it has not answered is lost."""
        ...


class Executor(Protocol):
    """Makes workers. One per job, closed when the driver is done.

    Attributes:
        concurrent: Whether calls to several workers overlap, so that stages may run side by side.
        cores: Processor cores to share among workers.
    """

    concurrent: bool
    cores: int

    @property
    def gpus(self) -> int:
        """GPUs to share among workers; they need not be of this machine."""
        ...

    def check(self) -> None:
        """Take note, without waiting, of what runs the workers; whoever waits for a worker calls this now and then.

        Raises:
            ClusterLostError: It is gone, and with it every worker: no call will be answered any more.
        """
        ...

    def worker(self, kind: type, *args: Any, cpus: float = 1, gpus: float = 0, resource: str | None = None) -> Worker:
        """Return a worker that answers with the methods of ``kind(*args)``.

        Args:
            kind: An importable class.
            args: Of its constructor; an error there is the error of the first call.
            cpus: Cores it takes. One that takes none runs on the driver's own machine, unless a resource says where.
            gpus: GPUs it takes.
            resource: What the machine it runs on must have, such as a device.
        """
        ...

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
        """Run a few long training runs, one per configuration.

        Args:
            train: Importable; is given a configuration and a function to report rows with.
            configs: One per run, told apart by ``name``.
            on_report: Is given every row reported, with the ``name`` of its run, in this process.
            folder: For what is noted of the runs; emptied before and after.
            cpus: Cores per run.
            gpus: GPUs per run.
            halving: Which runs are stopped before their end; None lets all of them end.

        Raises:
            WorkerError: A run failed.
        """
        ...

    def close(self) -> None:
        """End every worker."""
        ...
