"""Who drives a job: one run of one process of one machine, as text that the store compares and people can read.

``HOST:PID@MACHINE/STARTED/TOKEN``: two boards may have one name, so the machine is known by its boot; the system gives a
number to many processes in turn, so the process is known by when it started; and a process may drive a job more than once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import uuid
from pathlib import Path

import psutil

BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESSES = Path("/proc/self/ns/pid")  # containers of one machine number their processes each for itself


def new_owner() -> str:
    """Return a name for this process as a driver, which no other driver has or had."""
    return f"{socket.gethostname()}:{os.getpid()}@{machine()}/{_started(os.getpid())}/{secrets.token_hex(8)}"


def readable(owner: str) -> str:
    """Return ``HOST:PID``."""
    return owner.partition("@")[0]


def is_dead(owner: str) -> bool:
    """Return whether a driver was a process of this machine that does not run any more; False where that cannot be known."""
    who, _, identity = owner.partition("@")
    where, _, rest = identity.partition("/")
    number = who.rpartition(":")[2]
    if where != machine() or not number.isdigit():
        return False
    return _started(int(number)) != rest.partition("/")[0]


def machine() -> str:
    """Return what tells this machine, since it was last started, from all others."""
    try:
        parts = [BOOT.read_text(), str(PROCESSES.readlink())]
    except OSError:  # not Linux
        parts = [str(uuid.getnode()), str(psutil.boot_time())]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def _started(process: int) -> str | None:
    """Return when a process started; None where it does not run, or is dead and not yet reaped.

    On Linux it is told in ticks since the machine's start, which stay the same when its clock is set.
    """
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except FileNotFoundError:
        pass
    except ProcessLookupError:  # it ended meanwhile
        return None
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else str(found.create_time())
    except psutil.NoSuchProcess:
        return None
