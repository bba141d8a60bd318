"""`nas control`: which subnet a budget and preferences ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import FormatOption, JobArgument, StoreOption, opened
from nas.cli.tables import show
from nas.cli.trusting import ask
from nas.core import Stage, StageState, UserError, parse_limit, parse_preference
from nas.core.control import Controlled, ControlTable, stored_table

if TYPE_CHECKING:
    from nas.core import Objective
    from nas.store import SqlStore

BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="BUDGET", help="Upper bound on a predicted cost, such as latency_ms@local<=5."),
]
PreferOption = Annotated[
    str | None,
    typer.Option("--prefer", metavar="WEIGHTS", help="What to care for, such as seg=0.7,depth=0.3. Default: all alike."),
]


def control(
    ctx: typer.Context,
    job: JobArgument = "latest",
    budget: BudgetOption = None,
    prefer: PreferOption = None,
    report: Annotated[
        bool, typer.Option("--report", help="Show what preferences bring: hypervolume, uniformity and score.")
    ] = False,
    form: FormatOption = "table",
    store: StoreOption = None,
) -> None:
    """Print the subnet of a trained supernet for a budget and preferences, with what is predicted of it."""
    if report and prefer is not None:
        raise UserError(f"a report looks at twenty preferences of its own: got --prefer {prefer}; drop it or --report")
    if budget is None and not report:
        raise UserError("control needs a budget; write for example --budget 'latency_ms@local<=5'")
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    tasks = [task.name for task in record.spec.tasks]
    preference = dict.fromkeys(tasks, 1.0) if prefer is None else parse_preference(prefer, tasks)
    bound = None if budget is None else parse_limit(budget)
    table = table_of(opened_store, record.id)
    if report:
        show(_report(table, bound, f"latency_ms@{record.spec.devices[0]}", record.spec.seed), form)
        return
    assert bound is not None, "asked for above"
    picked = table.control(bound, preference)
    if form == "json":
        show([contract(picked)], form)
        return
    if form == "table":
        typer.echo(f"{picked.arch.key}  score {picked.score:.4f} (1: the largest subnet; lower is better), predicted")
        show([{"choice": name, "option": str(option)} for name, option in picked.arch.items()], form)
    show(metric_rows(picked), form)


def table_of(store: SqlStore, job: str) -> ControlTable:
    """Return the job's control table; one that was made before is read without loading torch."""
    table = stored_table(store, job)
    if table is None:
        if store.stages(job)[Stage.SEARCH].state is StageState.DONE:
            typer.echo("making the control table of this job, once ...", err=True)
        from nas.service.control import control_table

        table = control_table(store, job)
    return table


def contract(picked: Controlled) -> dict[str, Any]:
    """Return a controlled subnet as ``nas control --format json`` documents it."""
    return {
        "key": picked.arch.key,
        "arch": dict(picked.arch),
        "metrics": dict(picked.metrics),
        "std": dict(picked.std),
        "most": dict(picked.most),
        "score": picked.score,
        "source": "predicted",
    }


def metric_rows(picked: Controlled) -> list[dict[str, Any]]:
    """Return a row per predicted metric: its value, its error on subnets not seen, and what is compared with a budget."""
    return [
        {"metric": name, "predicted": value, "off by": picked.std[name], "at most": picked.most.get(name)}
        for name, value in picked.metrics.items()
    ]


def _report(table: ControlTable, budget: Objective | None, metric: str, seed: int) -> list[dict[str, Any]]:
    import numpy as np

    from nas.search.controllability import budgets, controllability

    rows = []
    for bound in [budget] if budget else budgets(table, metric):
        found = controllability(table, bound, np.random.default_rng([seed, 8]))
        row: dict[str, Any] = {"budget": f"{bound.metric}<={bound.limit:.4g}"}
        for name, (controlled, uniform) in (
            ("hypervolume", found.hypervolume),
            ("uniformity", found.uniformity),
            ("score", found.score),
        ):
            row |= {name: controlled, f"{name}, one width": None if np.isnan(uniform) else uniform}
        rows.append(row)
    return rows
