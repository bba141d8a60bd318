"""An error that nobody foresaw, as a person meets it: one line, and a file that holds the rest."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path


def unforeseen(error: BaseException, folders: Iterable[Path]) -> str:
    """Return one line about an error, and write its traceback into a file that the line names.

    Args:
        error: Whatever was raised.
        folders: Where the file may be, the best first; the temporary folder comes last. A folder is made where it is absent.
    """
    log = keep_traceback(error, folders)
    where = f"the details are in {log}" if log else "no folder takes a file with the details"
    return f"{_cause(error)}; {where}"


def keep_traceback(error: BaseException, folders: Iterable[Path]) -> Path | None:
    """Write the traceback of an error into the first folder that takes it, and return the file; None where none does."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    for folder in (*folders, _temporary()):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError):  # full, read-only, no folder, no name of one
            continue
        return folder / name
    return None


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {error.strerror}{place}"
    if "(os error " in str(error):  # as libraries written in Rust say it
        return f"the system refused: {one_line(error)}"
    if isinstance(error, MemoryError):
        return "memory ran out; end other programs, or ask for less at a time"
    return f"something unforeseen went wrong: {type(error).__name__}: {one_line(error)}"


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none can be written
        return None
