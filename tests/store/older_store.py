"""A store as an earlier version of the package left it."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

import nas.store
from nas.store import SqlStore
from nas.store.connection import VERSION_TABLE


def scripts() -> ScriptDirectory:
    """Return the migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(nas.store.__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)


def take_back(store: SqlStore, revision: str) -> None:
    """Undo the migrations after `revision` and close the store, which can be opened anew."""
    directory = scripts()

    def down(current: object, _: object) -> object:
        return directory._downgrade_revs(revision, current)  # type: ignore[arg-type]

    with store.engine.begin() as connection, EnvironmentContext(Config(), directory, fn=down) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()
    store.close()
