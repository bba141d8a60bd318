"""Ray: one actor per worker, Ray Tune for a few long runs.

An actor call costs half a millisecond and a Tune trial more than a second, so candidates go to actors and only training runs
to Tune. A call to an actor whose node died can raise for 15 seconds whatever its retries say, so the driver owns the retry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from nas.core import WorkerError
from nas.service.executors.executor import Report, Row

# Before Ray is imported: nothing is reported anywhere.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

import ray
from ray.exceptions import RayError


class RayWorker:
    """An actor.

    Args:
        kind: Class of the object that it holds.
        args: Of its constructor.
        options: Of the actor: what it takes.
    """

    def __init__(self, kind: type, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._actor: Any = ray.remote(kind).options(max_restarts=0, **options).remote(*args)

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Return the future result; it raises what the method raised, or `WorkerError` where the actor died."""
        answer: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            elif isinstance(error, RayError) and not isinstance(error, ray.exceptions.RayTaskError):
                answer.set_exception(WorkerError(f"a worker died or stopped answering in {method}: {_first_line(error)}"))
            else:
                # Ray gives an error that is both its own and the original's type; the original is what it is about.
                answer.set_exception(getattr(error, "cause", None) or error)

        try:
            getattr(self._actor, method).remote(*args).future().add_done_callback(settle)
        except RayError as error:
            answer.set_exception(WorkerError(f"a worker died before {method}: {_first_line(error)}"))
        return answer

    def stop(self) -> None:
        """Kill the actor."""
        ray.kill(self._actor)


class RayExecutor:
    """See `Executor`. Joins the cluster that ``RAY_ADDRESS`` names, else starts Ray on this machine."""

    concurrent = True

    def __init__(self) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            joins = bool(os.environ.get("RAY_ADDRESS"))
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=None if joins else False,
                num_cpus=None if joins else os.cpu_count(),
            )
        self.cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]

    def worker(self, kind: type, *args: Any, cpus: float = 1, gpus: float = 0, resource: str | None = None) -> RayWorker:
        """See `Executor`."""
        needs = {} if resource is None else {resource: 0.001}
        return RayWorker(kind, args, {"num_cpus": cpus, "num_gpus": gpus, "resources": needs})

    def trials(
        self,
        train: Callable[[Row, Report], None],
        configs: Sequence[Mapping[str, Any]],
        on_report: Report,
        cpus: float = 1,
        gpus: float = 0,
    ) -> None:
        """See `Executor`; the runs are Ray Tune trials, as many at a time as there is room for."""
        from nas.service.executors.trials import run_trials  # Tune takes a second to import, and most jobs have no twins

        run_trials(train, configs, on_report, cpus, gpus)

    def close(self) -> None:
        """Stop the Ray that was started here; leave a cluster that was joined."""
        if self._started:
            ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
