"""Where Ray cannot be: one message, soon. Where it dies: nobody waits for it, and another one starts in the same process."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.core import CrashError, OutOfMemoryError, UserError, WorkerError
from nas.service.executors import cluster
from nas.service.executors.deaths import death, out_of_memory

LOST = """
import os, signal, sys, threading, time
import psutil
import executor_work
from nas.core import ClusterLostError
from nas.service.executors.ray import RayExecutor
from nas.service.pool import ask, result_of

executor = RayExecutor()
for name in sys.argv[1:]:
    worker = executor.worker(executor_work.Counter, 10)
    assert worker.call("add", 1).result(60) == 11
    [victim] = [child for child in psutil.Process().children() if child.name() == name]
    victim.kill()
    began = time.monotonic()
    try:
        ask(lambda: executor.worker(executor_work.Counter, 10), "process", executor.check)  # there may be an answer yet
        while True:
            executor.check()
            time.sleep(0.1)
    except ClusterLostError as error:
        print(error, flush=True)
    assert time.monotonic() - began < 10, time.monotonic() - began
    executor.close()
    executor = RayExecutor()
worker = executor.worker(executor_work.Counter, 10)
print(worker.call("add", 2).result(60), flush=True)
token = os.path.expanduser("~/.ray/auth_token")
print(os.path.exists(token), executor.cores, flush=True)
executor.close()
"""


@pytest.mark.slow
def test_a_ray_that_dies_is_noticed_and_another_one_starts_in_the_same_process(tmp_path: Path) -> None:
    here = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parents[2]]))
    environment = {**os.environ, "PYTHONPATH": here, "HOME": str(tmp_path)}
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    (tmp_path / "predictors.py").write_text("raise RuntimeError('a module of the user stands in for ours')")
    run = subprocess.run(
        ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-P", "-c", LOST, "gcs_server"],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        cwd=tmp_path,
    )
    assert run.stdout.splitlines()[-3:] == ["Ray died (gcs_server)", "12", "False 1"], run.stderr[-2000:]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "ray://head:10001", "head", "head:", ":6379", "head:port", "https://head"]
)
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match=r"as HOST:PORT.*got .*; correct it, or unset it"):
        cluster._reach(address)


def test_an_address_where_nothing_answers_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert cluster.REACH_S + cluster.JOIN_S < 30
    monkeypatch.setattr(cluster, "REACH_S", 0.1)
    with pytest.raises(UserError, match=rf"nothing answers at 127.0.0.1:{port}.*; start it, or unset RAY_ADDRESS"):
        cluster._reach(f"127.0.0.1:{port}")
    with pytest.raises(UserError, match="nothing answers"):
        cluster._reach("127.0.0.1:99999999")


def test_a_port_that_answers_as_something_else_is_refused_soon() -> None:
    code = "import nas.service.executors.cluster as c; c.JOIN_S = 3.0; c.Cluster(1)"
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment = {**os.environ, "RAY_ADDRESS": f"127.0.0.1:{silent.getsockname()[1]}"}
        began = time.monotonic()
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert "cannot be joined" in run.stderr.strip().splitlines()[-1], run.stderr
    assert time.monotonic() - began < 50


def test_a_folder_for_sockets_is_short_and_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("of_the_department" * 5)))
    (tmp_path / ("of_the_department" * 5)).mkdir()
    assert cluster._temporary_folder() == Path("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "/dev/shm")
    assert cluster._temporary_folder() == Path("/dev/shm")
    monkeypatch.setattr(cluster.tempfile, "TemporaryFile", _read_only)
    with pytest.raises(UserError, match=r"a folder for temporary files that can be written.*RAY_TMPDIR"):
        cluster._temporary_folder()


def _read_only(dir: str) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), dir)


@pytest.mark.parametrize(
    ("number", "message"), [(errno.EADDRINUSE, "24 free ports"), (errno.EADDRNOTAVAIL, r"a network device for itself \(lo\)")]
)
def test_ports_are_counted_before_ray_looks_for_them(monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    cluster._check_ports()

    def bind(self: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    class Socket(socket.socket):
        pass

    Socket.bind = bind  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(cluster.socket, "socket", Socket)
    with pytest.raises(UserError, match=message):
        cluster._check_ports()


@pytest.mark.parametrize(("name", "number"), [("SIGSEGV", 11), ("SIGABRT", 6), ("SIGBUS", 7), ("SIGFPE", 8), ("SIGILL", 4)])
def test_a_worker_that_a_signal_kills_is_reported_as_such(tmp_path: Path, name: str, number: int) -> None:
    code = f"""
import os, signal
from pathlib import Path
from nas.service.executors.deaths import note_faults
note_faults(Path({str(tmp_path / "fault")!r}))
os.kill(os.getpid(), signal.{name})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert run.returncode == -number
    error = death("run_epoch", tmp_path / "fault", "the actor died")
    assert isinstance(error, CrashError)
    assert str(error) == f"killed by signal {number} ({name}) in run_epoch"


def test_a_worker_that_dies_without_a_word_is_no_crash(tmp_path: Path) -> None:
    error = death("run_epoch", tmp_path / "none", "the actor died")
    assert type(error) is WorkerError
    assert str(error) == "a worker died or stopped answering in run_epoch: the actor died"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nand more"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"),
    ],
)
def test_too_little_memory_is_known_in_every_wording(error: Exception) -> None:
    found = out_of_memory(error)
    assert isinstance(found, OutOfMemoryError)
    assert str(found).startswith("out of memory: ")
    assert "\n" not in str(found)


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    assert out_of_memory(RuntimeError("shape mismatch")) is None
    assert out_of_memory(ValueError("out of memory")) is None
