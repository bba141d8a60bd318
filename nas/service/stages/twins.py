"""Train each task alone, as the zero of Δm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core import Stage, StageState, UserError
from nas.service.context import JobContext
from nas.service.gpus import gpu_share
from nas.service.workers import train_twin
from nas.service.workplace import publish, reopen
from nas.tasks import KINDS
from nas.tasks.delta import without_zero

LEAST_CPUS = 0.5  # of a twin: many tasks do not all train at once, each holds the data


def twins(context: JobContext) -> None:
    """Train the twins; each goes on from its own checkpoint. Those of a job whose supernet is reused are taken over."""
    store, job, spec = context.store, context.job, context.spec
    former = store.stages(spec.training.reuse).get(Stage.TWINS) if spec.training.reuse else None
    if former and former.state is StageState.DONE:
        store.finish(job, Stage.TWINS, {**former.result, "reused": spec.training.reuse})
        return
    names = [task.name for task in spec.tasks]
    epochs = spec.training.twin_epochs or spec.training.epochs
    done = dict.fromkeys(names, 0)
    metrics: dict[str, dict[str, float]] = {"val": {}, "test": {}}
    reopen(context.folder, context.workplace, "twins")

    def on_report(row: dict[str, Any]) -> None:
        name = row["name"]
        done[name] = row["epoch"]
        context.add_curves(row["step"], {f"twin.{name}.{curve}": value for curve, value in row["curves"].items()})
        if row.get("note"):
            store.log(job, f"{name} alone: {row['note']}", "warning")
        for split, values in row.get("metrics", {}).items():
            metrics[split] |= values
        store.progress(job, Stage.TWINS, sum(done.values()), epochs * len(names), "epochs", f"{name} alone")
        context.check()

    store.progress(job, Stage.TWINS, 0, epochs * len(names), "epochs", "starting")
    configs = [
        {
            "name": name,
            "task": name,
            "spec": spec,
            "job_folder": str(context.folder),
            "folder": str(context.workplace / "twins" / name),
            "threads": 1,
        }
        for name in names
    ]
    if not context.executor.concurrent:
        for config in configs:
            config["threads"] = context.executor.cores
    # Three twins on two cores take turns: were each to have a core, the third would run alone at the end.
    cpus = min(1.0, max(LEAST_CPUS, context.executor.cores / len(names)))
    share = gpu_share(context.executor, spec.training, len(names))
    context.executor.trials(train_twin, configs, on_report, context.workplace / "twins" / "trials", cpus=cpus, gpus=share)
    _compare(context, metrics)
    store.folder(job)  # this driver's still
    publish(context.folder, context.workplace, "twins")
    store.finish(job, Stage.TWINS, metrics)


def _compare(context: JobContext, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Say which twin Δm cannot be told against.

    Raises:
        UserError: Δm is an objective: every candidate of a search would fail.
    """
    for split, found in metrics.items():
        lost = without_zero(found, context.definition.tasks, KINDS)
        if not lost:
            continue
        twins = ", ".join(f"{name} is {value:g}" for name, value in lost.items())
        why = f"delta_m is relative to networks trained for one task alone: on the {split} split {twins} of such a one"
        if any(objective.metric == "delta_m" for objective in context.spec.objectives):
            raise UserError(f"{why}; give training.twin_epochs more, mend the data, or remove delta_m from objectives")
        context.store.log(context.job, f"{why}; there is no delta_m", "warning")
