"""A connection to the database, whose schema is brought up to date first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from nas.core import StoreError
from nas.store.answers import reason_of, remedy
from nas.store.location import FORMS, Location

HEAD = "0003"  # the newest file of migrations/versions
VERSION_TABLE = "nas_version"  # not Alembic's default name, which Optuna's storages take in a shared database
BUSY_S = 30
_LOCK = 0x6E6173  # PostgreSQL's advisory lock of whoever migrates: "nas"
_ALEMBIC = threading.Lock()  # Alembic's context is global to the process


def connect(location: Location, create: bool) -> tuple[Engine, bool]:
    """Return an engine on an up-to-date schema, and whether it can write. A SQLite file that cannot be written is only read.

    Transactions take ``begin="IMMEDIATE"`` where they will write.

    Args:
        location: Where the database is.
        create: Whether an empty database may be filled; its SQLite file is made where it is absent.

    Raises:
        StoreError: It cannot be opened, is absent or empty while `create` is False, or was made by a newer version.
    """
    if location.file is not None and not _is_file(location.file):
        if not create:
            raise StoreError(f"there is no store at {location}; submit a job first, or name another store")
        try:
            location.file.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"the store's folder cannot be made: {location.file.parent} ({reason}); {FORMS}") from error
    try:
        engine = _opened(location, _migrate, create)
        # SQLite opens a file that others write, and that we may only read, without a word.
        return engine, location.file is None or os.access(location.file, os.W_OK)
    except UnicodeDecodeError as error:  # SQLite quotes what it met in a damaged file
        raise StoreError(f"the store at {location} cannot be opened: it is damaged; {remedy('malformed', FORMS)}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason, reading_may_do = error, location.file is not None and _cannot_write(error)
    if reading_may_do:
        with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
            return _opened(location, _check, create), False
    raise _unopened(reason, location) from reason


def _opened(location: Location, prepare: Callable[[Engine, Location, bool], None], create: bool) -> Engine:
    try:
        engine = _postgresql(location) if location.file is None else _sqlite(location, read_only=prepare is _check)
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs psycopg 3, which is not installed ({error}); pip install 'nas[postgres]'"
        ) from error
    try:
        prepare(engine, location, create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a folder on the way cannot be entered, or a name is too long
        return False


def _cannot_write(error: Exception) -> bool:
    """Return whether a SQLite file could not be opened for the lack of a right or of room, so that reading may yet do."""
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
    return name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_PERM"))


def _unopened(error: Exception, location: Location) -> StoreError:
    reason = reason_of(error)
    return StoreError(f"the store at {location} cannot be opened: {reason}; {remedy(reason, FORMS)}")


def _postgresql(location: Location) -> Engine:
    patience = {} if "connect_timeout" in location.url.query else {"connect_timeout": 10}  # seconds
    return create_engine(location.url, pool_pre_ping=True, connect_args=patience)


def _sqlite(location: Location, foreign_keys: Literal["ON", "OFF"] = "ON", read_only: bool = False) -> Engine:
    if read_only:  # every transaction connects anew: whether somebody else writes is seen when a connection is made
        engine = create_engine(location.url, creator=lambda: _reading(location), poolclass=NullPool)
    else:
        engine = create_engine(location.url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
        connection.text_factory = _text
        for pragma in (f"foreign_keys={foreign_keys}", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writing one fails at once where another wrote meanwhile; an immediate
        # one waits for its turn.
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _reading(location: Location) -> sqlite3.Connection:
    """Return a connection that writes nothing, not even the files beside the database by which writers and readers agree.

    Where these are not there, nobody writes; SQLite would make them, and is told that nothing changes.
    """
    assert location.file is not None, "SQLite"
    beside = [location.file.with_name(location.file.name + ending) for ending in ("-wal", "-journal")]
    still = "" if any(_is_file(path) for path in beside) else "&immutable=1"
    uri = f"{location.file.as_uri()}?mode=ro{still}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False)


def _text(stored: bytes) -> str:
    """Return text; bytes that are none, as in a damaged file, are written as escapes, so that the other rows can be read."""
    return stored.decode("utf-8", "backslashreplace")


def _use_wal(engine: Engine) -> None:
    """Let readers read while one writes. SQLite does not wait for its lock here, so two first openers may collide."""
    connection = engine.raw_connection()
    try:
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()


def _check(engine: Engine, location: Location, create: bool) -> None:
    """Raise where a database that is only read is not what this version reads."""
    with engine.connect() as connection:
        revision = _revision(connection)
    if revision is None:
        raise StoreError(f"there is no store in {location}: it has none of the tables, and it cannot be written")
    if revision != HEAD:
        raise StoreError(
            f"the store at {location} is of another version of nas ({revision}) and cannot be written, so it is not brought up "
            "to date; copy its folder and name the copy"
        )


def _migrate(engine: Engine, location: Location, create: bool) -> None:
    if location.file is not None:
        _use_wal(engine)
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    # SQLite changes a table by copying it and dropping the old one, which would delete the rows that refer to it.
    migrator = _sqlite(location, foreign_keys="OFF") if location.file else engine
    try:
        with migrator.execution_options(begin="IMMEDIATE").begin() as connection:
            if migrator.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            revision = _revision(connection)
            if revision is None and not create:
                raise StoreError(f"there is no store in {location}: it has none of the tables; submit a job first")
            if revision != HEAD:  # another process may have been first
                upgrade(connection, location)
    finally:
        migrator.dispose()


def upgrade(connection: Connection, location: Location) -> None:
    """Run the migrations that the database lacks, inside the connection's transaction.

    Raises:
        StoreError: The database is of a version that this package does not know.
    """
    from alembic import command  # loaded where a schema changes only: it takes 0.1 s
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with _ALEMBIC:
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the store at {location} was made by a newer version of nas ({error}); upgrade nas") from error
    except AssertionError as error:  # Alembic's, of a version that is no text
        raise StoreError(
            f"the store at {location} is damaged: table {VERSION_TABLE} names no version; {remedy('malformed', FORMS)}"
        ) from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
