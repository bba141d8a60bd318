"""What nobody foresaw ends in one line and a file, whatever the streams, the folders and the error are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_place import SPEC, Place

from nas.core.unforeseen import keep_traceback, unforeseen
from nas.store import open_store

NAS = [sys.executable, "-m", "nas"]
SHADOWED = ["nas", "search_spaces", "predictors", "hw_profiles", "dashboard"]


def test_an_unforeseen_error_is_one_line_that_names_the_file_with_the_rest(tmp_path: Path) -> None:
    try:
        raise KeyError("first line\nsecond line")
    except KeyError as error:
        line = unforeseen(error, [tmp_path / "logs"])
    assert "\n" not in line
    assert line.startswith("something unforeseen went wrong: KeyError: ")
    log = Path(re.fullmatch(r".*; the details are in (.+)", line)[1])  # type: ignore[index]
    assert log.parent == tmp_path / "logs"
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("taken", ["a file", "no permission", "no such device"])
def test_the_next_folder_takes_what_the_first_does_not(tmp_path: Path, taken: str) -> None:
    first = {"a file": tmp_path / "file", "no permission": Path("/proc/logs"), "no such device": Path("/dev/null/logs")}
    (tmp_path / "file").write_text("")
    kept = keep_traceback(ValueError("x"), [first[taken], tmp_path / "second"])
    assert kept is not None
    assert kept.parent == tmp_path / "second"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/x/y"), "the system refused: No space left on device (/x/y); "),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the system refused: I/O error: No space left"),
        (MemoryError(), "memory ran out; "),
        (EOFError(), "something unforeseen went wrong: EOFError: EOFError; "),
    ],
)
def test_what_the_system_refuses_is_called_so(error: Exception, said: str, tmp_path: Path) -> None:
    assert unforeseen(error, [tmp_path]).startswith(said)


def test_a_user_whom_nobody_knows_is_told_what_to_set(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who may run as anybody")
    unknown = {name: value for name, value in os.environ.items() if name not in ("HOME", "NAS_HOME", "XDG_DATA_HOME")}
    code = "import os; os.environ.pop('HOME', 0); from nas.store import home, log_folders; print(log_folders()); home()"
    code = f"import os, nas.store; os.setuid(987654)\n{code}"  # once it is imported, as what is root's may be closed to others
    done = subprocess.run([sys.executable, "-c", code], env=unknown, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
    assert "StoreError: your data folder is in your home" in done.stderr
    assert "set NAS_HOME" in done.stderr


def test_python_m_nas_is_nas_and_keeps_the_users_modules_out(tmp_path: Path) -> None:
    for name in SHADOWED[1:]:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not ours')")
    done = subprocess.run([*NAS, "devices", "-f", "csv"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("name,description,")


def test_the_dashboard_keeps_the_users_modules_out() -> None:
    from dashboard.launch import command

    assert "-P" in command(None, 1, False)


@pytest.mark.parametrize(("encoding", "form"), [("ascii", "json"), ("cp1252", "table"), ("latin-1", "csv"), ("utf-8", "json")])
def test_names_in_every_script_are_printed_in_every_encoding(tmp_path: Path, encoding: str, form: str) -> None:
    from dataclasses import replace

    name = "комната 部屋 é 🏠"
    with_store = open_store(str(tmp_path / "nas.db"))
    with_store.create_job(replace(SPEC, name=name))
    with_store.close()
    environment = {**os.environ, "NAS_STORE": str(tmp_path / "nas.db"), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([*NAS, "jobs", "-f", form], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    if form == "json":
        assert json.loads(text)[0]["name"] == name
    else:
        assert "\\U0001f3e0" in text


@pytest.mark.parametrize(("redirection", "code"), [(">&-", 0), ("> /dev/full", 1), ("2>&-", 0), ("| head -c 1", 0)])
def test_output_that_goes_nowhere_is_no_traceback(place: Place, redirection: str, code: int, tmp_path: Path) -> None:
    if redirection == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} -m nas jobs {redirection}"
    environment = {**os.environ, "NAS_STORE": place.url, "NAS_HOME": str(tmp_path)}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (code == 1)
