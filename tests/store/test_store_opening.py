"""Where a store is found, and what is said of one that cannot be opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from nas.core import JobSpec, StoreError
from nas.store import open_store
from nas.store.models import EventRow
from nas.store.transactions import now


def test_the_default_is_in_the_users_data_folder(home: Path, spec: JobSpec) -> None:
    with_default = open_store()
    job = with_default.create_job(spec)
    with_default.close()
    assert (home / "nas.db").is_file()
    assert with_default.folder(job) == home / "jobs" / job
    with_default.close()


def test_the_environment_names_a_store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: JobSpec) -> None:
    monkeypatch.setenv("NAS_STORE", str(tmp_path / "other" / "a b.db"))
    store = open_store()
    job = store.create_job(spec)
    assert store.job(job).folder == tmp_path / "other" / "jobs" / job
    store.close()
    assert (tmp_path / "other" / "a b.db").is_file()
    assert not home.exists()


def test_a_relative_path_means_the_same_file_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: JobSpec
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("here.db")
    job = store.create_job(spec)
    monkeypatch.chdir("/")
    again = open_store(store.url, create=False)
    assert again.job("latest").id == job
    assert again.folder(job) == tmp_path / "jobs" / job
    again.close()
    store.close()


def test_the_url_opens_the_same_store(store_url: str, dialect: str, home: Path, spec: JobSpec) -> None:
    store = open_store(store_url)
    job = store.create_job(spec)
    again = open_store(store.url, create=False)
    assert again.url == store.url
    assert again.jobs() == store.jobs()
    if dialect == "postgresql":
        assert store.folder(job) == home / "jobs" / job
    again.close()
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/nas", r"SQLite or PostgreSQL: got mysql://"),
        ("postgresql+pg8000://host/nas", r"got postgresql\+pg8000://"),
        ("postgresql://user:secret@host:port/nas", r"cannot be read \(postgresql://…\)"),
        ("sqlite://", r"cannot be in memory"),
        ("sqlite:///:memory:", r"cannot be in memory"),
        ("postgresql://user:secret@127.0.0.1:1/nas?connect_timeout=2", r"user:\*\*\*@127.0.0.1:1/nas\S* cannot be opened"),
    ],
)
def test_a_url_that_is_no_store(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_path_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, but longer than the header of one. " * 20)
    with pytest.raises(StoreError, match=r"notes.txt cannot be opened: file is not a database"):
        open_store(str(tmp_path / "notes.txt"))
    with pytest.raises(StoreError, match="cannot be opened: unable to open database file"):
        open_store(str(tmp_path))
    with pytest.raises(StoreError, match="folder cannot be made"):
        open_store(str(tmp_path / "notes.txt" / "nas.db"))


def test_nothing_is_made_where_nothing_is_asked_for(store_url: str, dialect: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(store_url, create=False)
    assert not (tmp_path / "store").exists()
    with pytest.raises(StoreError, match="there is no store"):  # it was not filled by the first attempt
        open_store(store_url, create=False)


def test_an_empty_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "nas.db").touch()
    with pytest.raises(StoreError, match="none of the tables"):
        open_store(str(tmp_path / "nas.db"), create=False)
    open_store(str(tmp_path / "nas.db")).close()


def test_a_database_that_does_not_answer(tmp_path: Path, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.store.patience.PATIENCE_S", 0.5)
    store = open_store(str(tmp_path / "nas.db"))

    with store.read() as session:
        session.execute(text("PRAGMA busy_timeout=50"))  # milliseconds, on the connection that the next call takes too
    blocker = open_store(str(tmp_path / "nas.db"))
    with blocker.write() as session:
        session.connection()
        with pytest.raises(StoreError, match="did not answer: database is locked"):
            store.create_job(spec)
    assert store.jobs() == []
    assert list((tmp_path / "jobs").glob("*")) == []
    blocker.close()
    store.close()


def test_a_job_without_a_folder_is_not_stored(tmp_path: Path, spec: JobSpec) -> None:
    (tmp_path / "jobs").write_text("in the way")
    store = open_store(str(tmp_path / "nas.db"))
    with pytest.raises(StoreError, match="needs a folder that can be written"):
        store.create_job(spec)
    assert store.jobs() == []
    store.close()


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "nas.db"))
    with store.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA busy_timeout")) == 30_000
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(EventRow(job_id="nosuchid", time=now(), level="info", message=""))
    store.close()


def test_the_import_is_light() -> None:
    heavy = "torch ray optuna pandas streamlit onnx sklearn scipy alembic psycopg"
    code = f"import sys, nas.store; print(*[name for name in {heavy.split()} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert loaded.stdout.split() == []
