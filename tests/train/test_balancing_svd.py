"""Weights from what tasks share: against a second implementation in NumPy, and where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_training import SPEC, TASKS, tiny_data, tiny_definition

from nas.core import InputSpec, Task
from nas.data import MultiTaskData, Split
from nas.tasks import task_kind
from nas.train.balancing.svd import LEAST, Svd, alignment, standardised
from nas.train.trainer import Trainer


def test_the_summaries_of_targets_by_hand() -> None:
    nan = torch.nan
    seg = torch.tensor([[[0, 1, 1, 255]], [[2, 2, 2, 2]], [[255] * 4]])
    expected = torch.tensor([[1 / 3, 2 / 3, 0], [0, 0, 1], [nan] * 3]).double()
    torch.testing.assert_close(task_kind("segmentation").summary(seg, 3), expected, equal_nan=True)
    room = task_kind("classification").summary(torch.tensor([1, -1]), 3)
    torch.testing.assert_close(room, torch.tensor([[0, 1, 0], [nan] * 3]).double(), equal_nan=True)
    depth = task_kind("depth").summary(torch.tensor([[[[1.0, 3.0, 0.0]]], [[[nan, -1.0, 0.0]]]]), 1)
    torch.testing.assert_close(depth, torch.tensor([[2.0], [nan]]).double(), equal_nan=True)
    up = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).repeat(2, 1, 1, 2)
    up[0, :, 0, 1] = 0
    up[1] = 0
    normals = task_kind("normals").summary(up, 3)
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0, 1], [nan] * 3]).double(), equal_nan=True)


def test_alignment_by_hand() -> None:
    # Two tasks point along x, one along y: the common direction is x.
    x, y = torch.tensor([[1.0], [0.0]]).double(), torch.tensor([[0.0], [1.0]]).double()
    assert alignment([3 * x, x, y], rank=1).tolist() == pytest.approx([1, 1, 0])
    assert alignment([3 * x, x, y], rank=2).tolist() == pytest.approx([1, 1, 1])
    # Two unit vectors at an angle of 60 degrees: the common direction lies between, 30 degrees from each.
    tilted = torch.tensor([[0.5], [3**0.5 / 2]]).double()
    assert alignment([x, 5 * tilted], rank=1).tolist() == pytest.approx([np.cos(np.pi / 6)] * 2)
    assert alignment([0 * x, x], rank=1).tolist() == pytest.approx([0, 1])
    assert alignment([0 * x, 0 * x], rank=1).tolist() == [1, 1]


def reference(data: MultiTaskData) -> NDArray[np.float64]:
    """The weights by NumPy, with the eigenvectors of theta theta^T instead of singular vectors."""
    images = data.train.inputs.numpy().astype(float)
    n, channels, side, _ = images.shape
    x = images.reshape(n, channels, 8, side // 8, 8, side // 8).mean((3, 5)).reshape(n, -1)

    def unit_columns(a: NDArray[np.float64]) -> NDArray[np.float64]:
        a = a - a.mean(axis=0)
        scale = a.std(axis=0)
        return np.divide(a, scale, out=np.zeros_like(a), where=scale > 1e-9)

    seg, depth = data.train.targets["seg"].numpy(), data.train.targets["depth"].numpy()
    room = data.train.targets["room"].numpy()
    ys = [
        np.stack([(seg == label).mean((1, 2)) for label in range(4)], axis=1),
        depth.astype(float).mean((1, 2, 3))[:, None],
        np.eye(3)[room],
    ]
    thetas = [unit_columns(x).T @ unit_columns(y) for y in ys]
    thetas = [theta / np.linalg.norm(theta) for theta in thetas]
    _, vectors = np.linalg.eigh(sum(theta @ theta.T for theta in thetas))
    alphas = np.array([np.linalg.norm(theta.T @ vectors[:, -2:]) for theta in thetas])
    return alphas * 3 / alphas.sum()


def test_the_weights_of_a_data_set_are_those_of_a_second_implementation() -> None:
    data, balancer = tiny_data(), Svd(TASKS)
    balancer.prepare(data)
    assert balancer.weights.tolist() == pytest.approx(reference(data).tolist(), abs=1e-6)
    assert float(balancer.weights.sum()) == pytest.approx(len(TASKS))
    assert len({round(w, 3) for w in balancer.weights.tolist()}) > 1
    losses = {task.name: torch.tensor(float(i)) for i, task in enumerate(TASKS)}
    assert float(balancer(losses)) == pytest.approx(float(balancer.weights[1] + 2 * balancer.weights[2]))
    again = Svd(TASKS)
    again.prepare(data)
    assert torch.equal(again.weights, balancer.weights)


def test_what_has_no_common_direction_counts_least_but_counts() -> None:
    g = torch.Generator().manual_seed(0)
    bright = torch.randint(0, 256, (64, 1, 1, 1), generator=g, dtype=torch.uint8).expand(64, 1, 8, 8).contiguous()
    grey = bright.float() / 255 + 1
    names = ("a", "b", "constant")
    tasks = tuple(Task(name, "depth", 1) for name in names)
    split = Split(bright, {"a": grey, "b": 2 * grey, "constant": torch.ones_like(grey)})
    balancer = Svd(tasks)
    balancer.prepare(MultiTaskData("grey", tasks, InputSpec(1, 8, 8, (0.5,), (0.25,)), split, split, split))
    total = 2 + LEAST
    assert balancer.weights.tolist() == pytest.approx([3 / total, 3 / total, 3 * LEAST / total])


def test_unknown_and_constant_columns_say_nothing() -> None:
    made = standardised(torch.tensor([[1.0, 5.0], [3.0, 5.0], [torch.nan, 5.0]]))
    assert made.tolist() == [[-1, 0], [1, 0], [0, 0]]


def test_a_resumed_run_keeps_its_weights(tmp_path: Path) -> None:
    data, spec = tiny_data(), replace(SPEC, balancing="svd", epochs=2, subnets=1)
    first = Trainer(tiny_definition(data), data, spec, 0, tmp_path)
    first.run_epoch()
    other = replace(data, train=data.val)  # were the weights made anew, they would be others
    resumed = Trainer(tiny_definition(data), other, spec, 0, tmp_path)
    assert torch.equal(resumed.balancer.get_buffer("weights"), first.balancer.get_buffer("weights"))
    fresh = Trainer(tiny_definition(data), other, spec, 0)
    assert not torch.equal(fresh.balancer.get_buffer("weights"), first.balancer.get_buffer("weights"))
