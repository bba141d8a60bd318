"""Where the work of a job runs: in this process, or in Ray's."""

from __future__ import annotations

from nas.service.executors.executor import Executor, Worker
from nas.service.executors.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Worker", "make_executor"]


def make_executor(name: str) -> Executor:
    """Return the executor called ``ray`` or ``local``; Ray is imported, and started, for the first only."""
    if name == "local":
        return LocalExecutor()
    from nas.service.executors.ray import RayExecutor

    return RayExecutor()
