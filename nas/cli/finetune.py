"""The command that makes a point of the front better after the search."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from nas.cli.options import JobArgument, StoreOption, opened
from nas.cli.tables import show
from nas.cli.trusting import ask
from nas.core import Evaluation, UserError


def finetune(
    ctx: typer.Context,
    job: JobArgument = "latest",
    *,
    arch: Annotated[str, typer.Option("--arch", metavar="KEY", help="Key of a verified subnet, or the start of one.")],
    prune_loss: Annotated[
        float | None,
        typer.Option(
            "--prune-loss",
            metavar="SHARE",
            help="Prune channels first; no task's training loss grows by more than this share before it is trained again.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Epochs of a run. Default: half of the job's.")
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            "--learning-rates", metavar="RATES", help="One run each, such as 2e-4,1e-3. Default: .1, .3 and 1 of the job's."
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Prune and train one verified subnet further, measure it, and print the key of the new point."""
    rates = None if learning_rates is None else _numbers(learning_rates)
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    from nas.service import refining  # a mistake in the options is said without waiting for it

    wanted = refining.Refinement.of(record.spec, prune_loss, epochs, rates)
    row = refining.find(opened_store, record.id, arch)
    with contextlib.redirect_stdout(sys.stderr):  # where Ray prints the death of a worker
        made = refining.refine(opened_store, record.id, row, wanted, lambda line: typer.echo(line, err=True))
    names = [objective.metric for objective in record.spec.objectives]
    names += [name for name in ("macs",) if name not in names]
    show([_row(each, names) for each in (row, made)], "table", out=sys.stderr)
    typer.echo(made.arch.key)


def _row(row: Evaluation, names: list[str]) -> dict[str, object]:
    return {"key": row.arch.key, "stage": row.stage} | {name: row.metrics.get(name) for name in names}


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--learning-rates are numbers with commas between: got {text!r}; write for example 2e-4,1e-3"
        ) from None
