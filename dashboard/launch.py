"""Starts the dashboard as a process of its own; `nas dashboard` calls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

APP = Path(__file__).with_name("app.py")


def command(store_url: str | None, port: int, browser: bool) -> list[str]:
    """Return the command line that serves the dashboard on this machine only.

    Args:
        store_url: The store to read; None means the default one.
        port: TCP port.
        browser: Whether a browser is opened at the page.
    """
    flags = {
        "server.port": str(port),
        "server.address": "localhost",
        "server.headless": "false" if browser else "true",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",  # or the first start of a user would wait for an answer
        "browser.gatherUsageStats": "false",
    }
    options = [f"--{name}={value}" for name, value in flags.items()]
    store = [] if store_url is None else ["--", "--store", store_url]
    # -P: a module of the working folder is not taken for one of ours
    return [sys.executable, "-P", "-m", "streamlit", "run", str(APP), *options, *store]


def launch(store_url: str | None = None, port: int = 8501, browser: bool = True) -> None:
    """Replace this process by the dashboard's; it does not return.

    Args:
        store_url: The store to read; None means the default one.
        port: TCP port.
        browser: Whether a browser is opened at the page.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    argv = command(store_url, port, browser)
    os.execv(argv[0], argv)
