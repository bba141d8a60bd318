"""The application: its global options, its commands, and how a mistake ends.

Exit codes: 0 all went well, 1 the job failed, 2 the user's mistake (one ``error:`` line, no traceback), 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nas import __version__
from nas.cli import affinity, control, export, files, finetune, lists, pages, runs
from nas.cli.options import StoreOption
from nas.core import CancelledError, NasError, UserError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Commands(TyperGroup):
    """The commands, whose errors end in one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (CancelledError, KeyboardInterrupt) as error:
            typer.echo(str(error) or "interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except NasError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2 if isinstance(error, UserError) else 1) from None


app = typer.Typer(
    name="nas",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nas {__version__}")
        raise typer.Exit


@app.callback()
def nas(
    ctx: typer.Context,
    store: StoreOption = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search for multi-task networks that fit a device: train once, search, measure, export."""
    ctx.obj = store


app.command("init")(files.init)
app.command("run")(runs.run)
app.command("submit")(runs.submit)
app.command("jobs")(lists.jobs)
app.command("status")(lists.status)
app.command("watch")(runs.watch)
app.command("cancel")(runs.cancel)
app.command("resume")(runs.resume)
app.command("pareto")(lists.pareto)
app.command("control")(control.control)
app.command("export")(export.export)
app.command("profile")(export.profile)
app.command("finetune")(finetune.finetune)
app.command("affinity")(affinity.affinity)
app.command("devices")(lists.devices)
app.command("dashboard")(pages.dashboard)
app.command("demo")(runs.demo)
app.command("optuna")(export.optuna)


def main() -> None:
    """Entry point of the ``nas`` script."""
    app()
