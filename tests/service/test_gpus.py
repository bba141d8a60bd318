"""How GPUs are shared: by as many workers as there are, wherever the GPUs are."""

from __future__ import annotations

import pytest

from nas.core import DeviceError, TrainingSpec
from nas.service.executors import LocalExecutor
from nas.service.gpus import gpu_share


class Machine(LocalExecutor):
    """One with some GPUs, as a Ray cluster tells of them; this machine's own do not matter."""

    def __init__(self, gpus: int) -> None:
        super().__init__()
        self._gpus = gpus

    @property
    def gpus(self) -> int:
        return self._gpus


@pytest.mark.parametrize(
    ("gpus", "workers", "share"),
    [(8, 8, 1.0), (8, 3, 1.0), (1, 4, 0.25), (2, 3, 0.5), (3, 8, 1 / 3), (1, 1, 1.0), (0, 4, 0.0)],
)
def test_workers_share_what_there_is(gpus: int, workers: int, share: float) -> None:
    assert gpu_share(Machine(gpus), TrainingSpec(), workers) == pytest.approx(share)
    if gpus:
        assert workers <= gpus * int(1 / share + 1e-9)  # so many fit at once


def test_a_job_for_processors_takes_no_gpu() -> None:
    assert gpu_share(Machine(8), TrainingSpec(device="cpu"), 2) == 0.0


def test_cuda_is_taken_where_the_cluster_has_it_and_refused_where_it_has_none() -> None:
    assert gpu_share(Machine(4), TrainingSpec(device="cuda"), 4) == 1.0  # the driver's machine may have none
    with pytest.raises(DeviceError, match="no GPU here nor in the Ray cluster"):
        gpu_share(Machine(0), TrainingSpec(device="cuda"), 1)
