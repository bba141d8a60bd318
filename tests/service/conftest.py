"""A Ray cluster of two nodes on this machine: one with the cores, one that plays a Raspberry Pi."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_job import tiny_spec

from nas.core import JobSpec
from nas.store import SqlStore, open_store


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of the cluster, for ``RAY_ADDRESS``."""
    from ray.cluster_utils import Cluster

    import nas.service.executors.ray  # noqa: F401  (its settings come before Ray's import)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # so that workers find what the tests give them
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        cluster.add_node(num_cpus=0, resources={"raspberry-pi-4": 1})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(str(tmp_path / "nas.db"))
    yield opened
    opened.close()


@pytest.fixture
def spec() -> JobSpec:
    return tiny_spec()
