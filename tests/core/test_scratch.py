"""What a killed process leaves behind is removed by the next one, and what is in use is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.core.scratch import OLD_S, PREFIX, scratch

HOLD = """if True:
    import sys, time
    from pathlib import Path
    from nas.core.scratch import scratch
    with scratch(Path(sys.argv[1])) as folder:
        (folder / "half.onnx").write_bytes(bytes(1000))
        print(folder, flush=True)
        time.sleep(60)
"""


def test_it_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch(tmp_path) as folder:
        assert list(folder.iterdir()) == []
        (folder / "a").mkdir()
    with pytest.raises(ZeroDivisionError), scratch(tmp_path):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    held = [subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        dead, alive = (Path(process.stdout.readline().strip()) for process in held if process.stdout)
        held[0].send_signal(signal.SIGKILL)
        held[0].wait(30)
        assert dead.is_dir()
        with scratch(tmp_path):
            assert not dead.exists()
            assert (alive / "half.onnx").is_file()
    finally:
        for process in held:
            process.kill()
            process.communicate()


def test_a_folder_whose_maker_died_before_it_had_a_lock_is_swept_when_it_is_old(tmp_path: Path) -> None:
    new, old = (tmp_path / f"{PREFIX}{name}" for name in ("new", "old"))
    for folder in (new, old):
        folder.mkdir()
    past = old.stat().st_mtime - OLD_S - 1
    os.utime(old, (past, past))
    with scratch(tmp_path):
        assert new.is_dir()
        assert not old.exists()
