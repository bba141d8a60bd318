"""The application: its global options, its commands, and how a mistake ends.

Exit codes: 0 all went well, 1 the job failed or something unforeseen went wrong, 2 the user's mistake, 130 interrupted. An
error is one ``error:`` line and no traceback; that of the unforeseen is in a file which the line names.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nas import __version__
from nas.cli import affinity, control, export, files, finetune, lists, pages, runs, trusting
from nas.cli.options import StoreOption
from nas.core import CancelledError, NasError, UserError
from nas.core.unforeseen import unforeseen

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Commands(TyperGroup):
    """The commands, whose errors end in one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a full disk behind a redirection is met here, not while Python ends
            return result
        except (CancelledError, KeyboardInterrupt) as error:
            typer.echo(str(error) or "interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except NasError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2 if isinstance(error, UserError) else 1) from None
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
                raise  # Typer's own way to end
            if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO):
                _forget_output()
                if error.errno == errno.EPIPE:  # whoever read has read enough
                    raise typer.Exit(1) from None
            from nas.store import log_folders

            typer.echo(f"error: {unforeseen(error, log_folders())}", err=True)
            raise typer.Exit(1) from None


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
app.command("trust")(trusting.trust)


def main() -> None:
    """Entry point of the ``nas`` script."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before this process began
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks is written as an escape
    app()


def _forget_output() -> None:
    """Let what standard output still holds go nowhere: it cannot be written, and Python would try again at the end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # no file of the system's, such as a test's
