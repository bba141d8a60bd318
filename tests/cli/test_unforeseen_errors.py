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
