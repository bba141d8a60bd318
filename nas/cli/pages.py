"""`nas dashboard`: the pages that show what the store holds."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import StoreOption, opened
from nas.core import UserError

PORT = 8501


def dashboard(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the pages are served.")] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Serve only; do not open a browser.")] = False,
    store: StoreOption = None,
) -> None:
    """Serve the dashboard on this machine until interrupted."""
    import socket

    from dashboard.launch import launch

    opened(ctx, store, create=True).jobs()  # a store that does not answer is said here, not in the browser
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"a port serves one program: {port} is taken; choose another, such as --port {port % 65535 + 1}")
    typer.echo(f"Serving on http://localhost:{port}; Ctrl-C ends it", err=True)
    launch(store or ctx.obj, port, not no_browser)
