"""Where a store is: an URL or a path becomes a database and the folder of its jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas.core import StoreError

FORMS = "write a path to a SQLite file, sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class Location:
    """A database, and the folder that holds ``jobs/``.

    Attributes:
        file: The SQLite file; None for a server.
    """

    url: URL
    home: Path
    file: Path | None

    def __str__(self) -> str:
        return str(self.file) if self.file else self.url.render_as_string(hide_password=True)


def home() -> Path:
    """Return the user's data folder: ``NAS_HOME`` where set, else the one of the platform. It may not exist.

    Raises:
        StoreError: Nothing says where it is.
    """
    given = os.environ.get("NAS_HOME")
    if given:
        return _absolute(given)
    try:
        return _absolute(user_data_dir("nas", appauthor=False))
    except RuntimeError as error:  # neither HOME nor a user of this number
        raise StoreError(f"your data folder is in your home, and nothing says where that is ({error}); set NAS_HOME") from None


def log_folders() -> list[Path]:
    """Return where the details of unforeseen errors go, the best place first; none where there is no data folder."""
    try:
        return [home() / "logs"]
    except StoreError:
        return []


def locate(url: str | None) -> Location:
    """Return where `url` points: None means ``NAS_STORE``, else ``nas.db`` in the user's data folder.

    Raises:
        StoreError: `url` is neither a path nor an URL of SQLite or PostgreSQL.
    """
    text = url or os.environ.get("NAS_STORE") or str(home() / "nas.db")
    if "://" not in text:
        return _file(text)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"a store is a path or an URL: this one cannot be read ({text.partition('://')[0]}://…); {FORMS}"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StoreError(f"a store is shared by several processes, so it cannot be in memory: got {text}; {FORMS}")
        return _file(parsed.database)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return Location(parsed.set(drivername="postgresql+psycopg"), home(), None)
    raise StoreError(f"a store is in SQLite or PostgreSQL: got {parsed.drivername}://; {FORMS}")


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user, no home, or a working folder that was deleted
        raise StoreError(f"a folder can be found: {text!r} cannot ({error}); set NAS_HOME, or write a full path") from None


def _file(path: str) -> Location:
    file = _absolute(path)
    return Location(URL.create("sqlite", database=str(file)), file.parent, file)
