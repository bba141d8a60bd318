"""The folder that a driver's processes write into while they work: theirs alone.

A driver that was stopped for a while may have lost its job to another one, and processes of a Ray that died may live on; both
may still write checkpoints. So the folder has a new name whenever it is taken: processes of before find no folder to write
into, and whoever has taken it finds all that was there. What is finished moves out of it, into the job's folder.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

PREFIX = "work-"


def take_workplace(folder: Path) -> Path:
    """Return a workplace for the driver that holds the job, with what was left in the one before.

    Args:
        folder: Of the job.
    """
    mine = folder / f"{PREFIX}{secrets.token_hex(8)}"
    for former in sorted(folder.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if mine.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            former.rename(mine)
    mine.mkdir(exist_ok=True)
    for unfinished in mine.rglob("*.partial"):  # a process of before may still hold it open
        unfinished.unlink(missing_ok=True)
    return mine


def reopen(folder: Path, workplace: Path, name: str) -> Path:
    """Return the path of `name` in the workplace, where what was finished too early, or by an earlier version, is put back."""
    inside, outside = workplace / name, folder / name
    if outside.exists() and not inside.exists():
        outside.rename(inside)
    return inside


def publish(folder: Path, workplace: Path, name: str) -> Path:
    """Move `name` out of the workplace into the job's folder, and return its path there; what was there is replaced."""
    inside, outside = workplace / name, folder / name
    if inside.is_dir():
        shutil.rmtree(outside, ignore_errors=True)
    inside.replace(outside)
    return outside
