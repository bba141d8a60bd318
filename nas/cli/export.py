"""Commands that hand something out: a model, a cost, a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.control import BudgetOption
from nas.cli.options import FormatOption, JobArgument, StoreOption, opened
from nas.cli.tables import show
from nas.cli.trusting import ask
from nas.core import UserError, parse_limit, parse_preference

LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="LIMIT", help="Bound that the choice keeps, such as latency_ms@local<=5; repeatable."),
]
PreferOption = Annotated[
    str | None, typer.Option("--prefer", metavar="WEIGHTS", help="What to care for, such as seg=0.7,depth=0.3.")
]


def export(
    ctx: typer.Context,
    job: JobArgument = "latest",
    arch: Annotated[str | None, typer.Option("--arch", metavar="KEY", help="Key of a point of the front.")] = None,
    limit: LimitOption = None,
    prefer: PreferOption = None,
    budget: BudgetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File or folder. Default: the job's folder.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Export one point of the front as a checked ONNX file and print its path; its model card lies beside it.

    With --budget the subnet is none of the front: it is the one that nas control answers, measured before it is exported.
    """
    if arch is not None and (limit or prefer):
        raise UserError(f"a point is picked by its key or by limits and preferences, not both: got --arch {arch}; drop one")
    if budget is not None and (arch is not None or limit):
        raise UserError(f"a budget asks for a subnet of its own: got --budget {budget} too; drop it, or --arch and --limit")
    bound = None if budget is None else parse_limit(budget)
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    preference = None if prefer is None else parse_preference(prefer, [task.name for task in record.spec.tasks])
    limits = [parse_limit(text) for text in limit or ()]
    if bound is not None:
        from nas.service.controlled import beyond, export_controlled, over

        weights = preference or {task.name: 1.0 for task in record.spec.tasks}
        path, row = export_controlled(opened_store, record.id, bound, weights, out)
        if over(row, bound) > 0:
            typer.echo(beyond(row, bound), err=True)
        typer.echo(path)
        return
    from nas.service import api  # a mistake in the options is said without waiting for it

    path = api.export(opened_store, record.id, key=arch, limits=limits, preference=preference, out=out)
    typer.echo(path)


def profile(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="[JOB|YAML]", help="A job, or a job file that was not run yet.")] = "latest",
    arch: Annotated[
        str, typer.Option("--arch", metavar="KEY", help="largest, smallest, or the key of a known one.")
    ] = "largest",
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="Default: the job's first device.")] = None,
    form: FormatOption = "table",
    store: StoreOption = None,
) -> None:
    """Measure what an architecture costs on a device: MACs, parameters, bytes, latency."""
    if job.endswith((".yaml", ".yml")):
        from nas.service.jobfile import load_job

        spec = load_job(Path(job))
        from nas.service import api

        cost = api.profile(spec, arch=arch, device=device)
    else:
        opened_store = opened(ctx, store)
        record = opened_store.job(job)
        ask(record.spec)
        from nas.service import api

        cost = api.profile_job(opened_store, record.id, arch=arch, device=device)
    show([cost], form)


def optuna(
    ctx: typer.Context,
    storage: Annotated[str, typer.Option("--storage", metavar="URL", help="Optuna storage, such as sqlite:///study.db.")],
    job: JobArgument = "latest",
    store: StoreOption = None,
) -> None:
    """Write a job's search into an Optuna storage, for other Optuna tools, and print the study's name."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    from nas.service import api

    typer.echo(api.write_optuna(opened_store, record.id, storage))
