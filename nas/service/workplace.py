"""The folder that a driver's processes write into while they work: theirs alone.

A driver that was stopped for a while may have lost its job to another one, and its processes may still write checkpoints.
So the folder bears the driver's name, and whoever takes the job over renames it: the processes of the former driver find
no folder to write into, the new driver finds all that was there. What is finished moves out of it, into the job's folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

PREFIX = "work-"


def take_workplace(folder: Path, token: str) -> Path:
    """Return the workplace of a driver that has just claimed the job, with what former drivers left in theirs.

    Args:
        folder: Of the job.
        token: Names the driver.
    """
    mine = folder / f"{PREFIX}{token}"
    for former in sorted(folder.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if former == mine:
            continue
        if mine.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            former.rename(mine)
    mine.mkdir(exist_ok=True)
    for unfinished in mine.rglob("*.partial"):  # a process of a former driver may still hold it open
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
