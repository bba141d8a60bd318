"""A store with a damaged row on the command line: one warning names the table, and the other jobs are listed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_place import SPEC, make_place
from typer.testing import Result


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[str, str, str]:
    """A store with a job whose row is damaged and a job that is whole."""
    place = make_place(tmp_path / "store")
    bad = place.store.create_job(SPEC)
    place.store.close()
    with sqlite3.connect(place.url) as connection:
        connection.execute("UPDATE jobs SET spec = '{' WHERE id = ?", [bad])
        connection.execute("UPDATE events SET time = 'then' WHERE job_id = ?", [place.job])
    connection.close()
    return place.url, place.job, bad


def test_the_other_jobs_are_listed(nas: Callable[..., Result], damaged: tuple[str, str, str]) -> None:
    url, good, _ = damaged
    done = nas("jobs", "--format", "json", "--store", url)
    assert [row["id"] for row in json.loads(done.stdout)] == [good]
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: the store's table jobs has 1 damaged row (")


@pytest.mark.parametrize("command", ["status", "pareto", "control", "export", "cancel", "resume", "profile", "affinity"])
def test_the_damaged_one_is_one_line(nas: Callable[..., Result], damaged: tuple[str, str, str], command: str) -> None:
    url, _, bad = damaged
    more = ["--budget", "macs<=1"] if command == "control" else []
    for job in (bad, "latest"):
        done = nas(command, job, *more, "--store", url)
        assert (done.exit_code, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: the store's table jobs is damaged at job {bad}: ")


def test_a_damaged_log_is_said_and_the_rest_of_the_status_shown(
    nas: Callable[..., Result], damaged: tuple[str, str, str]
) -> None:
    url, good, _ = damaged
    done = nas("status", good, "--store", url)
    assert done.exit_code == 0
    assert "verify" in done.stdout
    assert "table events has 1 damaged row" in done.stderr


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(2000), bytes(range(256)) * 64])
@pytest.mark.parametrize("command", ["jobs", "status", "dashboard"])
def test_a_file_that_is_no_store_is_one_line(tmp_path: Path, content: bytes, command: str, nas: Callable[..., Result]) -> None:
    (tmp_path / "nas.db").write_bytes(content)
    if command == "dashboard" and not content:
        pytest.skip("an empty file becomes a store")
    done = nas(command, "--store", tmp_path / "nas.db")
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
