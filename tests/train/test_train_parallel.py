"""Two processes that train together give what one process gives on all the images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import parallel_worker
import pytest
import torch
from tiny_training import tiny_data

from nas.train.parallel import Group

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of two processes wrote down."""
    folder = tmp_path_factory.mktemp("parallel") / "a #1, 50%25 done?"  # as a user may name a folder
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    worker = [sys.executable, str(HERE / "parallel_worker.py"), str(folder)]
    run = subprocess.run(worker, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_the_averaged_gradient_is_that_of_the_whole_batch(found: list[dict[str, Any]]) -> None:
    expected = parallel_worker.gradients(tiny_data(), 0, 1, None)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for one in found:
        assert set(one["gradients"]) == set(expected)
        for name, gradient in one["gradients"].items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6 * largest)
    halves = [parallel_worker.gradients(tiny_data(), rank, 2, None) for rank in range(2)]
    apart = max(float((halves[0][name] - halves[1][name]).abs().max()) for name in expected)
    assert apart > 1e-2 * largest, "the halves differ, so that averaging them is no identity"


def test_processes_start_and_stay_together(found: list[dict[str, Any]]) -> None:
    for moment in ("start", "end"):
        one, other = (rank[moment] for rank in found)
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    start, end = found[0]["start"], found[0]["end"]
    assert [name for name in start if torch.equal(start[name], end[name])] == []
    assert found[0]["step"] == found[1]["step"] == 3  # 24 images, 8 per step, 4 of them in each process


def test_only_the_first_process_validates(found: list[dict[str, Any]]) -> None:
    assert "val.largest.error.seg" in found[0]["curves"]
    assert not [name for name in found[1]["curves"] if name.startswith("val.")]


def test_one_process_needs_no_group() -> None:
    group = Group(0, 1, None, torch.device("cpu"))
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    group.average([parameter])
    group.broadcast([parameter])
    group.close()
    assert parameter.grad.tolist() == [1.0, 2.0]
