"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from nas.store import SqlStore

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Database: a path or an URL. Default: NAS_STORE, else your data folder."),
]
JobArgument = Annotated[str, typer.Argument(metavar="[JOB]", help="Id of a job, the start of one, or latest.")]
Format = Literal["table", "json", "csv"]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print it.")]


def opened(ctx: typer.Context, store: str | None, create: bool = False) -> SqlStore:
    """Return the store that the command's own ``--store`` names, else the global one's, else the default.

    What of it could not be read is said when the command ends, one line for each table.

    Args:
        ctx: Holds the global option.
        store: The command's own option.
        create: Whether a store that is not there is made: by commands that put a job into it.

    Raises:
        StoreError: It cannot be opened, or is absent and not to be made.
    """
    from nas.store import open_store

    result = open_store(store or ctx.obj, create)
    ctx.call_on_close(result.close)
    ctx.call_on_close(lambda: _warn(result.damages.sentences()))
    return result


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        typer.echo(f"warning: {sentence}", err=True)
