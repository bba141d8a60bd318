"""A few long training runs as Ray Tune trials."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from nas.core import WorkerError
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
    halving: Halving | None = None,
) -> None:
    """See `nas.service.executors.Executor.trials`."""

    refused: list[Exception] = []  # Tune turns what a callback raises into an error of its own

    def listen(row: Row) -> None:
        try:
            on_report(row)
        except Exception as error:
            refused.append(error)
            raise

    def trial(config: Row) -> None:
        train(config["run"], lambda row: tune.report({**_compared(row, halving), "row": row}))

    shutil.rmtree(folder, ignore_errors=True)  # of a driver that was killed
    try:
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
        results = tuner.fit()
        if results.errors:
            message = str(results.errors[0]).strip().splitlines()[-1][:200]
            raise WorkerError(f"a training run failed: {message}")
    except Exception:
        if refused:
            raise refused[0] from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
