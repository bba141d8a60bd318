"""Commands without a home, on full disks, into closed pipes, in locales that are none, and other places."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from damaged_stores import TRACEBACK, fill

JOB = """\
name: наме 名
data: {name: nyuv2, path: no.npz}
tasks: [seg]
objectives: [error.seg, macs]
executor: local
"""
Change = Callable[[Path, dict[str, str]], str]


def _redirect(to: str) -> Change:
    return lambda _place, _environment: to


def _set(**variables: str) -> Change:
    def change(place: Path, environment: dict[str, str]) -> str:
        environment.update({name: value.format(place=place) for name, value in variables.items()})
        return ""

    return change


def _unset(*names: str) -> Change:
    def change(_: Path, environment: dict[str, str]) -> str:
        for name in names:
            environment.pop(name, None)
        return ""

    return change


def _read_only(place: Path, environment: dict[str, str]) -> str:
    for path in (place / "home", place / "home" / "nas.db"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return ""


def _long_temporary(place: Path, environment: dict[str, str]) -> str:
    folder = place.joinpath(*["of_the_department_of_vision_" * 4] * 2)
    folder.mkdir(parents=True)
    environment["TMPDIR"] = str(folder)
    return ""


def _no_temporary(place: Path, environment: dict[str, str]) -> str:
    (place / "file").write_text("")
    environment["TMPDIR"] = str(place / "file")
    return ""


def _deleted_folder(place: Path, environment: dict[str, str]) -> str:
    return "@deleted"


CHANGES: dict[str, Change] = {
    "nothing": _set(),
    "no HOME": _unset("HOME", "NAS_HOME"),
    "no HOME, a store": _unset("HOME"),
    "HOME is no folder": _set(HOME="/nonexistent", NAS_HOME=""),
    "HOME is a device": _set(HOME="/dev/null"),
    "NAS_HOME is empty": _set(NAS_HOME=""),
    "NAS_HOME is a file": _set(NAS_HOME="{place}/job.yaml"),
    "NAS_HOME is /proc": _set(NAS_HOME="/proc"),
    "NAS_HOME is a device": _set(NAS_HOME="/dev/full"),
    "NAS_HOME of nobody": _set(NAS_HOME="~nobodyatall/x"),
    "NAS_HOME with signs": _set(NAS_HOME="{place}/a?b#c%d e"),
    "NAS_HOME is long": _set(NAS_HOME="{place}/" + "x" * 300),
    "NAS_STORE is a folder": _set(NAS_STORE="{place}"),
    "NAS_STORE is a file": _set(NAS_STORE="{place}/job.yaml"),
    "NAS_STORE is odd": _set(NAS_STORE="://"),
    "NAS_STORE is a driver": _set(NAS_STORE="oracle://x"),
    "NAS_STORE is away": _set(NAS_STORE="postgresql://u:p@127.0.0.1:1/x?connect_timeout=1"),
    "NAS_STORE has signs": _set(NAS_STORE="sqlite:///{place}/a?b.db"),
    "NAS_STORE in memory": _set(NAS_STORE="sqlite://"),
    "NAS_DEVICES is no folder": _set(NAS_DEVICES="/nonexistent"),
    "NAS_TRUST is odd": _set(NAS_TRUST=",,::,"),
    "read-only store": _read_only,
    "long TMPDIR": _long_temporary,
    "TMPDIR is no folder": _no_temporary,
    "TMPDIR is /proc": _set(TMPDIR="/proc"),
    "closed stdout": _redirect(">&-"),
    "closed stderr": _redirect("2>&-"),
    "closed stdin": _redirect("<&-"),
    "all closed": _redirect("<&- >&- 2>&-"),
    "full stdout": _redirect("> /dev/full"),
    "full stderr": _redirect("2> /dev/full"),
    "a reader that leaves": _redirect("| head -c 1"),
    "ascii": _set(PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C"),
    "cp1252": _set(PYTHONIOENCODING="cp1252", PYTHONUTF8="0"),
    "a locale that is none": _set(LC_ALL="xx_YY.UTF-99", LANG="xx"),
    "no PATH": _set(PATH=""),
    "no terminal": _set(TERM="dumb", COLUMNS="1"),
    "a wide terminal": _set(COLUMNS="100000", LINES="0"),
    "COLUMNS is odd": _set(COLUMNS="many"),
    "a folder that is gone": _deleted_folder,
    "few open files": _redirect("@ulimit -n 24;"),
    "small files": _redirect("@ulimit -f 8;"),
    "shadowing modules": _set(PYTHONPATH=""),
    "OMP_NUM_THREADS is odd": _set(OMP_NUM_THREADS="-3"),
    "a dead RAY_ADDRESS": _set(RAY_ADDRESS="127.0.0.1:1"),
}
COMMANDS = (
    "jobs",
    "status -f json",
    "pareto",
    "init new.yaml",
    "init /proc/new.yaml",
    "export --out /proc/x",
    "run job.yaml",
    "run /dev/full",
    "run .",
    "devices",
    "trust python:a:b",
    "control --budget 'macs<=1'",
    "--store /dev/full jobs",
    "profile no.yaml",
    "optuna --storage /proc/x",
)


def try_environments(count: int, seed: int) -> Iterator[str]:
    """Yield a line for every command that ends in a traceback, or by no exit code of ours, in a hostile environment."""
    with tempfile.TemporaryDirectory(prefix="nas-hostile-") as root:
        names = list(CHANGES)
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            name = names[number % len(names)]
            place = Path(root) / str(number)
            (place / "home").mkdir(parents=True)
            shutil.copy(fill(place / "home"), place / "whole.db")
            # A job that is refused before it trains, by a file that is not there.
            (place / "job.yaml").write_text(JOB, encoding="utf-8")
            (place / "predictors.py").write_text("raise RuntimeError('not ours')\n")
            environment = {**os.environ, "NAS_HOME": str(place / "home"), "NAS_STORE": ""}
            how = CHANGES[name](place, environment)
            words = str(COMMANDS[number % len(COMMANDS)] if number < len(COMMANDS) else rng.choice(COMMANDS))
            nas = f"'{sys.executable}' -P -m nas {words}"
            line = f"{how[1:]} {nas}" if how.startswith("@ulimit") else f"{nas} {'' if how.startswith('@') else how}"
            if how == "@deleted":
                line = f"mkdir gone; cd gone; rmdir ../gone; {line}"
            script = f"{line}\nexit ${{PIPESTATUS[0]}}"
            done = subprocess.run(["/bin/bash", "-c", script], cwd=place, env=environment, capture_output=True, timeout=240)
            text = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
            if TRACEBACK.search(text) or done.returncode not in (0, 1, 2):
                yield f"environment {number} ({name}), nas {words}: {done.returncode} {text.strip()[-600:]}"
            with contextlib.suppress(OSError):
                (place / "home").chmod(0o755)
            shutil.rmtree(place, ignore_errors=True)
