"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_place import Place, make_place
from typer.testing import CliRunner, Result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A store with one finished job, for the tests of one file."""
    made = make_place(tmp_path_factory.mktemp("place"))
    yield made
    made.store.close()


@pytest.fixture
def nas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line as a user would, in an empty folder, without a default store."""
    from nas.cli.app import app

    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NAS_STORE", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
