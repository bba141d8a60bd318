"""A driver's name: no other driver has it, and it tells whether its process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.service import owner
from nas.service.owner import is_dead, new_owner, readable

NAME = "from nas.service.owner import new_owner; print(new_owner(), flush=True); input()"


def test_a_process_drives_under_a_new_name_each_time() -> None:
    first, second = new_owner(), new_owner()
    assert first != second
    assert readable(first) == readable(second)
    assert readable(first).endswith(f":{os.getpid()}")
    assert not is_dead(first)


def test_a_process_that_ended_is_dead_also_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", NAME], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not is_dead(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert is_dead(name)
    assert is_dead(name)


def test_a_number_that_another_process_has_now_is_not_the_driver() -> None:
    host, _, rest = new_owner().partition("@")
    machine, started, token = rest.split("/")
    assert is_dead(f"{host}@{machine}/1{started}/{token}")


def test_nothing_is_known_of_a_board_of_the_same_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, "BOOT", tmp_path / "boot_id")
        (tmp_path / "boot_id").write_text("another board\n")
        theirs = new_owner()
    assert readable(theirs) == readable(new_owner())
    gone = theirs.replace("/", "/1", 1)  # a process that does not run here
    assert not is_dead(gone)
    assert not is_dead("raspberrypi:1")  # as earlier versions wrote it
