"""Jobs and results in SQL: SQLite or PostgreSQL."""

from __future__ import annotations

from nas.store.connection import connect
from nas.store.location import home, locate, log_folders
from nas.store.sql import SqlStore

__all__ = ["SqlStore", "home", "log_folders", "open_store"]


def open_store(url: str | None = None, create: bool = True) -> SqlStore:
    """Open a store and bring its schema up to date.

    Args:
        url: A path to a SQLite file, ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``. None means the
            environment variable ``NAS_STORE``, else ``nas.db`` in the user's data folder (``NAS_HOME`` moves it).
        create: Whether an absent SQLite file is made and an empty database filled.

    Returns:
        A `nas.core.Store`. Its jobs' folders are beside a SQLite file, else in the user's data folder. A SQLite file that
        cannot be written can be read.

    Raises:
        StoreError: It cannot be opened, or is absent and `create` is False.
    """
    location = locate(url)
    engine, writable = connect(location, create)
    return SqlStore(engine, location.home, writable)
