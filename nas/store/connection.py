"""A connection to the database, whose schema is brought up to date first."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from nas.core import StoreError
from nas.store.location import FORMS, Location

HEAD = "0003"  # the newest file of migrations/versions
VERSION_TABLE = "nas_version"  # not Alembic's default name, which Optuna's storages take in a shared database
BUSY_S = 30
_LOCK = 0x6E6173  # PostgreSQL's advisory lock of whoever migrates: "nas"
_ALEMBIC = threading.Lock()  # Alembic's context is global to the process


def connect(location: Location, create: bool) -> Engine:
    """Return an engine on an up-to-date schema. Transactions take ``begin="IMMEDIATE"`` where they will write.

    Args:
        location: Where the database is.
        create: Whether an empty database may be filled; its SQLite file is made where it is absent.

    Raises:
        StoreError: It cannot be opened, is absent or empty while `create` is False, or was made by a newer version.
    """
    if location.file is not None:
        if not create and not location.file.is_file():
            raise StoreError(f"there is no store at {location}; submit a job first, or name another store")
        try:
            location.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store's folder cannot be made: {location.file.parent} ({error.strerror}); {FORMS}"
            ) from error
    try:
        engine = _sqlite(location) if location.file else _postgresql(location)
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs psycopg 3, which is not installed ({error}); pip install 'nas[postgres]'"
        ) from error
    try:
        if location.file is not None:
            _use_wal(engine)
        _migrate(engine, location, create)
    except Exception as error:
        engine.dispose()
        if not isinstance(error, SQLAlchemyError | sqlite3.Error):
            raise
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"the store at {location} cannot be opened: {reason}; {FORMS}") from error
    return engine


def _postgresql(location: Location) -> Engine:
    patience = {} if "connect_timeout" in location.url.query else {"connect_timeout": 10}  # seconds
    return create_engine(location.url, pool_pre_ping=True, connect_args=patience)


def _sqlite(location: Location, foreign_keys: Literal["ON", "OFF"] = "ON") -> Engine:
    engine = create_engine(location.url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
        for pragma in (f"foreign_keys={foreign_keys}", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writing one fails at once where another wrote meanwhile; an immediate
        # one waits for its turn.
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


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


def _migrate(engine: Engine, location: Location, create: bool) -> None:
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


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
