"""A Ray of this process's own, or one that ``RAY_ADDRESS`` names: started, watched, ended. Every wait has a limit."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil

from nas.core import ClusterLostError, UserError, WorkerError

# Before Ray is imported: nothing is reported anywhere.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # a trial that is restarted is no error of the job's
# Whatever waits for a Ray that died ends the whole process after a minute. It is to live on: Ray is started again.
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "1000000")


def address() -> str:
    """Return the cluster to join, empty where a Ray of one's own is started."""
    found = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if found == "local" else found


def _authenticate() -> None:
    """Choose how processes of a Ray prove that they belong to it, unless the user has chosen.

    A Ray of our own gets a token, which its processes inherit: else Ray would write one, for everyone to read, into the user's
    folder, and every ``ray start`` on this machine would ask for it from then on. A cluster is joined with the token that the
    user has, if there is one; Ray has to be told so before it is imported.
    """
    if "RAY_AUTH_MODE" in os.environ or "RAY_AUTH_TOKEN" in os.environ:
        return
    if not address():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif _token_file().is_file():
        os.environ["RAY_AUTH_MODE"] = "token"


def _token_file() -> Path:
    own = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(own) if own else Path(os.path.expanduser("~")) / ".ray" / "auth_token"  # noqa: PTH111  (no home: no error)


_authenticate()

import ray  # noqa: E402

STARTS = 3  # attempts at a Ray of our own; a crowded machine needs more than one
START_S = 120.0  # of each
JOIN_S = 20.0  # to reach a cluster
SILENCE_S = 30.0  # after which a cluster that was joined is taken for dead
WATCH_S = 2.0  # between two looks at it
CLOSE_S = 60.0
PORTS = 24  # that a Ray of our own listens at
LONGEST_TMP = 40  # characters: Unix sockets below it have names of at most 107
CORE = ("raylet", "gcs_server")  # the processes without which there is no Ray
log = logging.getLogger(__name__)


class Cluster:
    """The Ray that this process is connected to.

    Args:
        cores: Of a Ray that is started here.

    Attributes:
        own: Whether it was started here, and so ends here.
        logs: Folder of its logs, of the same name on every machine.

    Raises:
        UserError: The cluster cannot be reached, or this machine lacks what Ray needs.
        WorkerError: Ray did not start.
    """

    def __init__(self, cores: int) -> None:
        self._seen, self._alive, self._closed = time.monotonic(), True, threading.Event()
        self._mine = not ray.is_initialized()  # or whoever started it ends it
        self.own = self._mine and not address()
        self.logs: Path | None = None
        self._thread: Host | None = None
        if self._mine:
            context = self._start(cores) if self.own else self._join()
            self.logs = Path(context.address_info["session_dir"]) / "logs"
        self._core = [child for child in psutil.Process().children() if child.name() in CORE] if self.own else []
        if not self.own:
            threading.Thread(target=self._watch, name="nas-cluster", daemon=True).start()

    def check(self) -> None:
        """Raise `ClusterLostError` where Ray is gone; takes no time."""
        dead = [child.name() for child in self._core if not _runs(child)]
        if dead:
            raise ClusterLostError(f"Ray died ({', '.join(sorted(dead))})")
        if not self.own and (not self._alive or time.monotonic() - self._seen > SILENCE_S):
            raise ClusterLostError(f"the Ray cluster at {address() or 'this machine'} does not answer")

    def close(self) -> None:
        """End a Ray that was started here, leave a cluster that was joined."""
        self._closed.set()
        if self._thread:
            self._thread.leave()

    def _join(self) -> Any:
        where = address()
        _reach(where)
        try:
            return self._enter(JOIN_S, {})
        except Exception as error:
            raise UserError(
                f"RAY_ADDRESS names a Ray cluster that this machine is part of: {where} cannot be joined ({_first(error)}); "
                f"run ray start --address={where} here, or unset RAY_ADDRESS for a Ray of the job's own"
            ) from error

    def _start(self, cores: int) -> Any:
        _authenticate()
        _check_ports()
        options = {
            "address": "local",  # or Ray would join whatever cluster it finds on this machine
            "include_dashboard": False,
            "num_cpus": cores,
            "_node_ip_address": "127.0.0.1",  # nobody else is to reach it, and it needs no network
            "_temp_dir": str(_temporary_folder() / "ray"),
        }
        for attempt in range(1, STARTS + 1):
            try:
                return self._enter(START_S, options)
            except Exception as error:
                if attempt == STARTS:
                    raise WorkerError(
                        f"Ray starts within {START_S:.0f} seconds on a machine that is not overloaded: it did not in {STARTS} "
                        f"attempts ({_first(error)}); resume when the machine is quieter, or write executor: local"
                    ) from error
                log.warning("Ray did not start (%s); trying again", _first(error))
        raise AssertionError("the last attempt returns or raises")

    def _enter(self, limit_s: float, options: Mapping[str, Any]) -> Any:
        self._thread = Host(options)
        return self._thread.enter(limit_s)

    def _watch(self) -> None:
        """Note when a cluster that was joined was last heard of, and whether this machine's part of it lives."""
        me = ray.get_runtime_context().get_node_id()
        while not self._closed.wait(WATCH_S):
            try:
                nodes = {node["NodeID"]: node["Alive"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
            except Exception:
                continue
            self._seen, self._alive = time.monotonic(), nodes.get(me, False)


class Host:
    """The thread that connects to Ray and stays until the end: processes that a thread started end with it.

    Args:
        options: Of ``ray.init``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._entered: Future[Any] = Future()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nas-ray", daemon=True)

    def enter(self, limit_s: float) -> Any:
        """Return what ``ray.init`` returns, or raise what it raises, or `TimeoutError`."""
        self._thread.start()
        try:
            return self._entered.result(limit_s)
        except TimeoutError:
            self.leave()
            raise TimeoutError(f"no answer within {limit_s:.0f} seconds") from None
        except Exception:
            self.leave()
            raise

    def leave(self) -> None:
        """Disconnect; what was started ends. Where that takes too long, it is left behind."""
        self._leave.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            self._entered.set_result(ray.init(log_to_driver=False, logging_level=logging.ERROR, **self._options))
            self._leave.wait()
        except BaseException as error:
            self._entered.set_exception(error)
        finally:
            ray.shutdown()


def _reach(where: str) -> None:
    """Check that something answers at the address of a cluster.

    Raises:
        UserError: Nothing does, or it is no address of a cluster.
    """
    if where == "auto":
        return
    host, _, port = where.rpartition(":")
    if "://" in where or not host or not port.isdigit():
        raise UserError(
            f"RAY_ADDRESS names a Ray cluster as HOST:PORT, the port being that of ray start --head (6379): got {where!r}; "
            "correct it, or unset it for a Ray of the job's own"
        )
    deadline = time.monotonic() + JOIN_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > deadline or isinstance(error, OverflowError):
                raise UserError(
                    f"RAY_ADDRESS names a Ray cluster that runs: nothing answers at {where} ({error}); start it, or unset "
                    "RAY_ADDRESS for a Ray of the job's own"
                ) from error
            time.sleep(1)


def _check_ports() -> None:
    """Check that the processes of a Ray can meet on this machine.

    Raises:
        UserError: There is no loopback device, or there are too few free ports.
    """
    held: list[socket.socket] = []
    try:
        for _ in range(PORTS):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", 0))
        listener = held[0]
        listener.listen()
        held.append(socket.create_connection(listener.getsockname(), timeout=5))
    except OSError as error:
        rule = "a network device for itself (lo)"
        if error.errno == errno.EADDRINUSE:
            rule = f"{PORTS} free ports (sysctl net.ipv4.ip_local_port_range)"
        raise UserError(
            f"Ray's processes need {rule}: this machine has none ({error.strerror}); provide it, or write executor: local"
        ) from error
    finally:
        for each in held:
            each.close()


def _temporary_folder() -> Path:
    """Return the first folder for temporary files that can be written and whose name leaves room for those of sockets.

    Raises:
        UserError: There is none.
    """
    named = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    for folder in [*named, "/tmp", "/var/tmp", "/dev/shm"]:
        if len(os.fsencode(folder)) > LONGEST_TMP:
            continue
        try:
            with tempfile.TemporaryFile(dir=folder):
                return Path(folder)
        except OSError:
            continue
    raise UserError(
        f"Ray needs a folder for temporary files that can be written, of at most {LONGEST_TMP} characters: none of "
        f"{', '.join([*named, '/tmp'])} is one; name one in RAY_TMPDIR, or write executor: local"
    )


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
