"""`nas trust`, and the question that is asked once where a stored job brings along code of somebody else's."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nas.core import JobSpec


def trust(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Such as python:package.module:function.")],
) -> None:
    """Allow code that stored jobs bring along to run as you, and print the file that says so."""
    from nas.service.trust import allow

    typer.echo(allow(names))


def ask(spec: JobSpec) -> None:
    """Ask at a terminal whether what a job brings along may run; where nobody can be asked, the service refuses it."""
    from nas.service.trust import allow, untrusted

    names = untrusted(spec)
    if names and sys.stdin.isatty() and sys.stderr.isatty():
        question = f"This job brings along {', '.join(names)}, which you did not submit and which runs as you. Allow it?"
        if typer.confirm(question, err=True):
            allow(names)
