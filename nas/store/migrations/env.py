"""Alembic runs this file; `nas.store.connection.upgrade` hands it the connection, and the transaction is the caller's."""

from alembic import context

from nas.store.connection import VERSION_TABLE
from nas.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
