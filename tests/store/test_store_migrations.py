"""The migrations make the tables that the models describe."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from older_store import scripts, take_back
from sqlalchemy import Column, Connection, Text, inspect, text

from nas.core import JobSpec, StoreError
from nas.store import open_store
from nas.store.connection import HEAD, VERSION_TABLE
from nas.store.models import Base


def test_the_newest_migration_is_the_head() -> None:
    assert scripts().get_heads() == [HEAD]


def test_an_empty_database_becomes_what_the_models_say(store_url: str) -> None:
    store = open_store(store_url)
    with store.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, VERSION_TABLE}
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        for table in Base.metadata.sorted_tables:  # what Alembic does not compare
            made = inspect(connection).get_pk_constraint(table.name)["constrained_columns"]
            assert made == [column.name for column in table.primary_key]
    store.close()


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "nas.db"))
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE events DROP COLUMN level"))
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        [difference] = compare_metadata(context, Base.metadata)
    assert difference[0] == "add_column"
    store.close()


def test_every_migration_can_be_undone(store_url: str) -> None:
    store = open_store(store_url)
    take_back(store, "base")
    with store.engine.connect() as connection:
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
    store.close()
    again = open_store(store_url)
    assert again.jobs() == []
    again.close()


def test_opening_again_keeps_what_is_there(store_url: str, spec: JobSpec) -> None:
    store = open_store(store_url)
    store.create_job(spec)
    jobs = store.jobs()
    store.close()
    again = open_store(store_url)
    assert again.jobs() == jobs
    again.close()


@pytest.mark.parametrize("create", [True, False])
def test_a_store_of_a_newer_version_is_left_alone(store_url: str, create: bool) -> None:
    store = open_store(store_url)
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match=r"made by a newer version of nas .*9999.*; upgrade nas"):
        open_store(store_url, create=create)


def test_a_migration_that_fails_leaves_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_index", fail)  # the sixth table was made by then
        with pytest.raises(RuntimeError, match="in the middle"):
            open_store(store_url)
    with pytest.raises(StoreError, match="none of the tables"):
        open_store(store_url, create=False)
    open_store(store_url).close()


def test_a_table_that_sqlite_copies_keeps_what_refers_to_it(
    tmp_path: Path, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "nas.db")
    store = open_store(url)
    job = store.create_job(spec)
    stages = store.stages(job)
    store.close()

    def copy_jobs(connection: Connection, _: object) -> None:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("jobs", recreate="always") as batch:
            batch.add_column(Column("comment", Text))

    monkeypatch.setattr("nas.store.connection.HEAD", "9999")
    monkeypatch.setattr("nas.store.connection.upgrade", copy_jobs)
    again = open_store(url)
    assert "comment" in {column["name"] for column in inspect(again.engine).get_columns("jobs")}
    assert again.stages(job) == stages
    again.close()


def test_it_shares_a_database_with_another_user_of_alembic(store_url: str) -> None:
    store = open_store(store_url)
    with store.engine.begin() as connection:
        assert "alembic_version" not in inspect(connection).get_table_names()
    store.close()
