"""A few long training runs as Ray Tune trials."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune

from nas.core import CrashError, NasError, WorkerError
from nas.service.executors.deaths import fault, note_faults, out_of_memory
from nas.service.executors.executor import Report, Row
from nas.service.executors.halving import Halving

RESTARTS = 2  # of a trial whose process died; it goes on from its own checkpoint


class Listener(tune.Callback):
    """Hands reported rows to the driver.

    Args:
        on_report: Is given them; None in the copy that Tune keeps on disk, which nobody calls.
    """

    def __init__(self, on_report: Report | None) -> None:
        self._on_report = on_report

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Row, **info: Any) -> None:
        """Hand on one row, with the name of its run."""
        if self._on_report:
            self._on_report({**result["row"], "name": trial.config["run"]["name"]})

    def __reduce__(self) -> tuple[type[Listener], tuple[None]]:
        return Listener, (None,)


def run_trials(
    train: Callable[[Row, Report], None],
    configs: Sequence[Mapping[str, Any]],
    on_report: Report,
    folder: Path,
    cpus: float,
    gpus: float,
    check: Callable[[], None],
    halving: Halving | None = None,
) -> None:
    """See `nas.service.executors.Executor.trials`.

    Tune does not notice a Ray that died, so it works in a thread that is left behind where `check` raises.
    """
    content, here = cloudpickle.dumps(train), str(Path.cwd())  # type: ignore[no-untyped-call]
    refused: list[Exception] = []  # Tune turns what a callback raises into an error of its own

    def listen(row: Row) -> None:
        try:
            on_report(row)
        except Exception as error:
            refused.append(error)
            raise

    def trial(config: Row) -> None:
        from nas.service.executors.ray import search_last

        search_last(here)
        note_faults(folder / f"{config['run']['name']}.fault")
        try:
            cloudpickle.loads(content)(config["run"], lambda row: tune.report({**_compared(row, halving), "row": row}))
        except Exception as error:
            raise out_of_memory(error) or error from None

    def fit() -> None:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": cpus, "gpu": gpus}),
            param_space={"run": tune.grid_search([dict(config) for config in configs])},
            tune_config=tune.TuneConfig(scheduler=_scheduler(halving)) if halving else None,
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder),
                callbacks=[Listener(listen)],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
            ),
        )
        failed.extend(tuner.fit().errors)

    failed: list[Exception] = []
    shutil.rmtree(folder, ignore_errors=True)  # of a driver that was killed
    folder.mkdir(parents=True)
    try:
        _watched(fit, check)
        if failed:
            raise _failure(failed[0], [folder / f"{config['name']}.fault" for config in configs])
    except Exception:
        if refused:
            raise refused[0] from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watched(work: Callable[[], None], check: Callable[[], None]) -> None:
    """Do some work in a thread, raise what it raises, and leave it behind where `check` raises."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, name="nas-tune", daemon=True)
    thread.start()
    while thread.is_alive():
        check()
        thread.join(0.5)
    check()  # what Tune makes of a Ray that died says nothing
    if errors:
        raise errors[0]


def _failure(error: Exception, faults: Sequence[Path]) -> NasError:
    """Return why a run failed in the end, after its restarts."""
    for number in filter(None, map(fault, faults)):
        return CrashError(f"a training run was killed by signal {number.value} ({number.name})")
    message = str(error).strip().splitlines()[-1][:200]
    return WorkerError(f"a training run failed: {message}")


def _compared(row: Row, halving: Halving | None) -> Row:
    """Return what the scheduler compares; a row without a score is as good as any."""
    return {halving.time: row[halving.time], halving.score: row.get(halving.score, math.nan)} if halving else {}


def _scheduler(halving: Halving) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr=halving.time,
        metric=halving.score,
        mode="min",
        max_t=halving.most,
        grace_period=halving.first,
        reduction_factor=halving.factor,
    )
