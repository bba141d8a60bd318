"""What a worker died of, as an error that says what may help."""

from __future__ import annotations

import faulthandler
import signal
from pathlib import Path

from nas.core import CrashError, OutOfMemoryError, WorkerError

# How Python's fault handler names the signals that a process brings upon itself.
FAULTS = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Illegal instruction": signal.SIGILL,
    "Floating": signal.SIGFPE,
}
MEMORY = ("out of memory", "can't allocate memory", "unable to allocate", "cannot allocate memory")


def note_faults(path: Path) -> None:
    """Let a signal that kills this process leave its name, and where each thread was, in a file; nothing where it cannot."""
    try:
        file = path.open("w")
    except OSError:
        return
    faulthandler.enable(file, all_threads=True)
    _OPEN.append(file)  # the handler writes to its number, so it must stay open


def fault(path: Path) -> signal.Signals | None:
    """Return the signal that a process noted with `note_faults` before it died; None where it noted none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    return next((number for name, number in FAULTS.items() if f"Fatal Python error: {name}" in text), None)


def death(method: str, path: Path, reason: str) -> WorkerError:
    """Return the error of a call that a worker did not live to answer.

    Args:
        method: That was called.
        path: Where the worker noted its faults.
        reason: What else is known, in one line.
    """
    number = fault(path)
    if number is None:
        return WorkerError(f"a worker died or stopped answering in {method}: {reason}")
    return CrashError(f"killed by signal {number.value} ({number.name}) in {method}")


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """Return the error of a worker that asked for too much memory, or None where `error` is another one.

    Python, NumPy, torch's allocators on either device and ONNX Runtime each say it in their own way.
    """
    text = str(error).strip()
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and any(words in text.lower() for words in MEMORY)
    ):
        return None
    return OutOfMemoryError(f"out of memory: {(text or type(error).__name__).splitlines()[0][:200]}")


_OPEN: list[object] = []
