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
    import importlib.util
    import os
    import socket
    import subprocess
    import sys

    opened(ctx, store, create=True)  # a store that cannot be opened is said here, not in the browser
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"a port serves one program: {port} is taken; choose another, such as --port {port % 65535 + 1}")
    spec = importlib.util.find_spec("dashboard.app")
    if spec is None or spec.origin is None:
        raise UserError("the dashboard is installed with nas: the package dashboard is not found; install nas again")
    options = {
        "server.port": str(port),
        "server.address": "127.0.0.1",
        "server.headless": str(no_browser).lower(),
        "browser.gatherUsageStats": "false",
    }
    command = [sys.executable, "-m", "streamlit", "run", spec.origin, *(f"--{name}={value}" for name, value in options.items())]
    url = store or ctx.obj
    environment = os.environ | ({"NAS_STORE": url} if url else {})
    typer.echo(f"Serving on http://127.0.0.1:{port}; Ctrl-C ends it", err=True)
    with subprocess.Popen(command, env=environment) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return
    if code:
        raise typer.Exit(1)
