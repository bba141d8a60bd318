import pytest
from synthetic_job import fill


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with one finished job: its path and the job's id. Read only."""
    path = str(tmp_path_factory.mktemp("finished") / "nas.db")
    return path, fill(path)
