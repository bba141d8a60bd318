"""Whose code a job may run: a store that others write to may hold a job which names any module of Python.

What a job brings along (``python:package.module:name``) runs as whoever uses the job. It runs where this user has submitted it
with the same options, or has allowed the name. Both are kept outside the store, in the user's data folder, in a file that
belongs to the user and that nobody else can write; the environment variable ``NAS_TRUST`` allows names too.
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

from nas.core import JobId, JobSpec, Store, UserError
from nas.core.importing import PREFIX
from nas.core.unforeseen import one_line
from nas.store import home

VARIABLE = "NAS_TRUST"  # names with commas between


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
    known = {*_kept(), *(name.strip() for name in os.environ.get(VARIABLE, "").split(","))}
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
    _keep(wanted)
    return _file()


def _file() -> Path:
    return home() / f"trusted-{os.getuid()}.json"


def _kept() -> set[str]:
    """Return the names and digests that the user's file holds; none where it is another's, or others can write it."""
    with contextlib.suppress(OSError, ValueError, UserError), _file().open(encoding="utf-8") as file:
        about = os.fstat(file.fileno())
        if about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return {entry for entry in json.load(file) if isinstance(entry, str)}
    return set()


def _keep(entries: Iterable[str]) -> None:
    known = _kept()
    if known.issuperset(new := set(entries)):
        return
    try:
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(sorted(known | new), file, indent=1)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"what may run is kept in your data folder, which cannot be written ({one_line(error)}); set NAS_HOME to a "
            f"folder of yours, or name what may run in {VARIABLE}"
        ) from None
