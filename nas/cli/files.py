"""`nas init`: a commented job file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.core import UserError


def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="File to write.")] = Path("job.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file where there is one.")] = False,
) -> None:
    """Write a commented job file to start from."""
    from nas.service.starter import starter

    if path.is_dir():
        raise UserError(f"init writes a file: {path} is a folder; name a file in it, such as {path / 'job.yaml'}")
    if path.exists() and not force:
        raise UserError(f"init does not replace a file unasked: {path} exists; name another one or add --force")
    try:
        path.write_text(starter(path.stem), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"init writes to a folder that exists and is yours: {path} cannot be written ({error.strerror})"
        ) from None
    typer.echo(f"Wrote {path}. Next: nas run {path}", err=True)
    typer.echo(path)
