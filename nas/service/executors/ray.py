"""Ray: one actor per worker, Ray Tune for a few long runs.

An actor call costs half a millisecond and a Tune trial more than a second, so candidates go to actors and only training runs
to Tune. A call to an actor whose node died can raise for 15 seconds whatever its retries say, so the driver owns the retry.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from nas.core import DeviceError, OutOfMemoryError
from nas.core.cores import usable_cores
from nas.service.executors.cluster import Cluster  # its settings come before Ray's import
from nas.service.executors.deaths import death, note_faults, out_of_memory
from nas.service.executors.executor import Report, Row
from nas.service.executors.halving import Halving

# isort: split
import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Held:
    """What an actor is: an object made at the first call, so that an error in its constructor is that call's error.

    Args:
        content: Class of the object, and arguments of its constructor, pickled: they are loaded at the first call too, when
            modules of the user's folder no longer come before ours.
        folder: The driver's, where the user's own modules are.
        faults: File for a signal that kills the process.
    """

    def __init__(self, content: bytes, folder: str, faults: Path) -> None:
        self._content, self._object = content, None
        search_last(folder)
        note_faults(faults)

    def call(self, method: str, *args: Any) -> Any:
        """Return what a method of the object returns."""
        if self._object is None:
            kind, args_of_it = cloudpickle.loads(self._content)
            self._object = kind(*args_of_it)
        return getattr(self._object, method)(*args)


def search_last(folder: str) -> None:
    """Search the driver's folder for modules last in this process, where Ray has put it first: it may have a predictors.py."""
    sys.path[:] = [each for each in sys.path if each != folder] + [folder]


class RayWorker:
    """An actor.

    Args:
        kind: Class of the object that it holds.
        args: Of its constructor.
        options: Of the actor: what it takes.
        logs: Folder for a note on the signal that it dies of.
    """

    def __init__(self, kind: type, args: tuple[Any, ...], options: Mapping[str, Any], logs: Path) -> None:
        named = type(kind.__name__, (Held,), {})  # the process is listed under the name of what it holds
        self._faults = logs / f"nas-{kind.__name__}-{uuid.uuid4().hex}.fault"
        content = cloudpickle.dumps((kind, args))  # type: ignore[no-untyped-call]
        self._actor: Any = ray.remote(named).options(max_restarts=0, **options).remote(content, str(Path.cwd()), self._faults)

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Return the future result; it raises what the method raised, or `WorkerError` where the actor died."""
        answer: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            elif isinstance(error, ray.exceptions.OutOfMemoryError):
                answer.set_exception(OutOfMemoryError(f"out of memory: {_first_line(error)}"))
            elif isinstance(error, RayError) and not isinstance(error, ray.exceptions.RayTaskError):
                answer.set_exception(death(method, self._faults, _first_line(error)))
            else:
                # Ray gives an error that is both its own and the original's type; the original is what it is about.
                original = getattr(error, "cause", None) or error
                answer.set_exception(out_of_memory(original) or original)

        try:
            self._actor.call.remote(method, *args).future().add_done_callback(settle)
        except RayError as error:
            answer.set_exception(death(method, self._faults, _first_line(error)))
        return answer

    def stop(self) -> None:
        """Kill the actor, and drop its note."""
        if ray.is_initialized():  # or it ended with its Ray
            ray.kill(self._actor)
        self._faults.unlink(missing_ok=True)


class RayExecutor:
    """See `Executor`. Joins the cluster that ``RAY_ADDRESS`` names, else starts Ray on this machine."""

    concurrent = True

    def __init__(self) -> None:
        self._cluster = Cluster(usable_cores())
        self._logs = self._cluster.logs or Path(tempfile.gettempdir())
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        # A worker has to fit on one machine, so the largest one counts, not the cluster; of those with GPUs, if it needs one.
        self.cores = max(1, *(int(node.get("CPU", 0)) for node in nodes))
        self._cores_beside_gpus = max([int(node.get("CPU", 0)) for node in nodes if node.get("GPU")] or [self.cores])
        self._gpus = sum(int(node.get("GPU", 0)) for node in nodes)

    @property
    def gpus(self) -> int:
        """See `Executor`."""
        return self._gpus

    def check(self) -> None:
        """See `Executor`."""
        self._cluster.check()

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
        cpus = min(cpus, self._cores_beside_gpus) if gpus else cpus
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "resources": needs}
        if resource is None and cpus == 0:
            node = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        return RayWorker(kind, args, options, self._logs)

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

        run_trials(train, configs, on_report, folder, cpus, gpus, self.check, halving)

    def close(self) -> None:
        """Stop the Ray that was started here; leave a cluster that was joined."""
        self._cluster.close()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
