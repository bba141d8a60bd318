"""Whose code a job may run: a store that others write to may hold a job which names any module of Python.

What a job brings along (``python:package.module:name``) runs as whoever uses the job. It runs where this user has submitted it
with the same options, or has allowed the name. Both are kept outside every store, in the user's configuration folder, in a file
that belongs to the user and that nobody else can write; the environment variable ``NAS_TRUST`` allows names too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_config_dir

from nas.core import JobId, JobSpec, Store, UserError
from nas.core.importing import PREFIX
from nas.core.unforeseen import one_line
from nas.store import home

VARIABLE = "NAS_TRUST"  # names with commas between
FOLDER_VARIABLE = "NAS_CONFIG"  # moves the configuration folder


def brought(spec: JobSpec) -> dict[str, str]:
    """Return the names that a job brings along, each with a digest of what it is called with."""
    parts = (spec.data, spec.space)
    return {
        part.name: hashlib.sha256(json.dumps(dataclasses.asdict(part), sort_keys=True, default=str).encode()).hexdigest()
        for part in parts
        if part.name.startswith(PREFIX)
    }


def untrusted(spec: JobSpec) -> list[str]:
    """Return the names that a job brings along and that are not to run yet."""
    wanted = brought(spec)
    if not wanted:
        return []
    known = {*set().union(*map(_kept, _files())), *(name.strip() for name in os.environ.get(VARIABLE, "").split(","))}
    return [name for name, digest in wanted.items() if name not in known and digest not in known]


def trusted_spec(store: Store, job: JobId) -> JobSpec:
    """Return what a stored job asks for, once everything that it brings along may run. Whatever runs a job begins here.

    Raises:
        UserError: Something may not; the message names the command that allows it.
    """
    record = store.job(job)
    names = untrusted(record.spec)
    if names:
        raise UserError(
            f"code that a stored job brings along runs once you have submitted or allowed it: job {record.id} names "
            f"{', '.join(names)}; if you know whose it is, nas trust {' '.join(names)}"
        )
    return record.spec


def remember(spec: JobSpec) -> None:
    """Let what this user's own job brings along run, with these options, in every job of every store.

    Raises:
        UserError: The file cannot be written.
    """
    _keep(brought(spec).values())


def allow(names: Iterable[str]) -> Path:
    """Let names run, whatever their options, and return the file that says so.

    Raises:
        UserError: One is not of the form ``python:package.module:name``, or the file cannot be written.
    """
    from nas.core.importing import named_parts

    wanted = list(names)
    for name in wanted:
        named_parts(name, "code", "function", UserError)
    return _keep(wanted) or next(path for path in _files() if _kept(path) & set(wanted))


def _files() -> list[Path]:
    """Return where what may run is kept: the configuration folder, which is no store's, and, without one, the data folder."""
    name = f"trusted-{os.getuid()}.json"
    places = []
    with contextlib.suppress(RuntimeError):  # nothing says where the home is
        places.append(Path(os.environ.get(FOLDER_VARIABLE) or user_config_dir("nas", appauthor=False)) / name)
    with contextlib.suppress(UserError):
        places.append(home() / name)
    return [place for place in places if place.is_absolute()]  # none of ``~``, where nobody knows the home


def _kept(path: Path) -> set[str]:
    """Return the names and digests that a file holds; none where it is another user's, or others can write it."""
    with contextlib.suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
        about = os.fstat(file.fileno())
        if about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return {entry for entry in json.load(file) if isinstance(entry, str)}
    return set()


def _keep(entries: Iterable[str]) -> Path | None:
    """Add entries to the first file that can be written, and return it; None where they are known."""
    new = set(entries)
    if new <= set().union(*map(_kept, _files())):
        return None
    reasons = []
    for path in _files():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(sorted(_kept(path) | new), file, indent=1)
            partial.replace(path)
        except OSError as error:
            reasons.append(one_line(error))
            continue
        return path
    raise UserError(
        f"what may run is kept in your configuration folder, which cannot be written ({'; '.join(reasons)}); set "
        f"{FOLDER_VARIABLE} to a folder of yours, or name what may run in {VARIABLE}"
    )
