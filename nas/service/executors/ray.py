"""Ray: one actor per worker, Ray Tune for a few long runs.

An actor call costs half a millisecond and a Tune trial more than a second, so candidates go to actors and only training runs
to Tune. A call to an actor whose node died can raise for 15 seconds whatever its retries say, so the driver owns the retry.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from nas.core import DeviceError, WorkerError
from nas.service.executors.executor import Report, Row
from nas.service.executors.halving import Halving

# Before Ray is imported: nothing is reported anywhere.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # a trial that is restarted is no error of the job's

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Held:
    """What an actor is: an object made at the first call, so that an error in its constructor is that call's error.

    Args:
        kind: Class of the object.
        args: Of its constructor.
    """

    def __init__(self, kind: type, args: tuple[Any, ...]) -> None:
        self._kind, self._args = kind, args
        self._object: Any = None

    def call(self, method: str, *args: Any) -> Any:
        """Return what a method of the object returns."""
        if self._object is None:
            self._object = self._kind(*self._args)
        return getattr(self._object, method)(*args)


class RayWorker:
    """An actor.

    Args:
        kind: Class of the object that it holds.
        args: Of its constructor.
        options: Of the actor: what it takes.
    """

    def __init__(self, kind: type, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        named = type(kind.__name__, (Held,), {})  # the process is listed under the name of what it holds
        self._actor: Any = ray.remote(named).options(max_restarts=0, **options).remote(kind, args)

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
            self._actor.call.remote(method, *args).future().add_done_callback(settle)
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
                address=None if joins else "local",  # or Ray would join whatever cluster it finds on this machine
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=None if joins else False,
                num_cpus=None if joins else os.cpu_count(),
            )
        # A worker has to fit on one machine, so the largest one counts, not the cluster.
        self.cores = max(1, *(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]))  # type: ignore[no-untyped-call]

    def worker(self, kind: type, *args: Any, cpus: float = 1, gpus: float = 0, resource: str | None = None) -> RayWorker:
        """See `Executor`.

        Raises:
            DeviceError: No machine of the cluster has the resource.
        """
        if resource is not None and resource not in ray.cluster_resources():  # type: ignore[no-untyped-call]
            have = json.dumps({resource: 1})
            raise DeviceError(
                f"a device is measured on a machine of the Ray cluster that has its resource: none has {resource!r}; "
                f"start Ray there with ray start --address=HOST:6379 --resources='{have}', name the cluster in RAY_ADDRESS, "
                "and nas resume"
            )
        needs = {} if resource is None else {resource: 0.001}
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "resources": needs}
        if resource is None and cpus == 0:
            node = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        return RayWorker(kind, args, options)

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
        """See `Executor`; the runs are Ray Tune trials, as many at a time as there is room for."""
        from nas.service.executors.trials import run_trials  # Tune takes a second to import, and most jobs have no twins

        run_trials(train, configs, on_report, folder, cpus, gpus, halving)

    def close(self) -> None:
        """Stop the Ray that was started here; leave a cluster that was joined."""
        if self._started:
            ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
