"""Folders for what is made on the way. Whoever makes one holds a lock on it; the kernel frees the lock of a killed process.

So what a kill left behind is told from what is in use, on every machine and in every container, and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".nas-scratch-"
LOCK = "lock"
OLD_S = 3600


@contextlib.contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that is removed afterwards; those that killed processes left beside it are removed first.

    Args:
        folder: Where it is made, which exists; None means the temporary folder.
    """
    place = Path(tempfile.gettempdir()) if folder is None else folder
    sweep(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place, ignore_cleanup_errors=True) as made, open_lock(Path(made)):
        inside = Path(made) / "files"
        inside.mkdir()
        yield inside


@contextlib.contextmanager
def open_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; where the file system has no locks, nothing is held, and nothing is ever swept."""
    with (folder / LOCK).open("wb") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def sweep(place: Path) -> None:
    """Remove the scratch folders of this user in `place` whose makers are dead."""
    with contextlib.suppress(OSError):
        for folder in place.glob(f"{PREFIX}*"):
            if folder.stat().st_uid == os.getuid() and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Return whether the lock of a folder can be had; one without a lock is being made, unless it is old."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > OLD_S
    except OSError:
        return False
