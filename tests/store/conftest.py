from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import database
from sqlalchemy import URL, text

from nas.core import JobSpec, Objective, TaskSpec
from nas.store import SqlStore, open_store
from nas.store.models import Base


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, so that no test touches the real one."""
    monkeypatch.delenv("NAS_STORE", raising=False)
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An URL of a database that does not exist (SQLite) or is empty (PostgreSQL)."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path}/store/nas.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def shared_url(postgres_server: URL) -> Iterator[str]:
    """An URL of a PostgreSQL database that tests share: making one takes longer than most tests."""
    with database(postgres_server) as url:
        yield url


@pytest.fixture
def store(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """A store that holds nothing."""
    url = f"{tmp_path}/store/nas.db" if dialect == "sqlite" else request.getfixturevalue("shared_url")
    opened = open_store(url)
    if dialect == "postgresql":
        with opened.write() as session:
            session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
    yield opened
    opened.close()


@pytest.fixture
def spec() -> JobSpec:
    objectives = (Objective("error.seg"), Objective("macs", limit=1e9), Objective("latency_ms@local"))
    return JobSpec("scenes", (TaskSpec("seg"), TaskSpec("depth", 2.0)), objectives)


@pytest.fixture
def job(store: SqlStore, spec: JobSpec) -> str:
    return store.create_job(spec)
