"""Checkpoints are whole or not there, and bring back every tensor."""

from __future__ import annotations

import hashlib
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from nas.core import UserError
from nas.train.checkpoint import load_checkpoint, restore_training, save_checkpoint, training_tensors


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    tensors = {"weight": weight, "count": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    digest = save_checkpoint(path, tensors, {"epoch": 3, "name": "größer"})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    found, facts = load_checkpoint(path)
    assert facts == {"epoch": 3, "name": "größer"}
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert save_checkpoint(path, tensors, {"name": "größer", "epoch": 3}) == digest
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_disk_that_fills_up_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"weight": torch.zeros(10)}, {"epoch": 1})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # no file may grow beyond 64 KiB: writing stops in the middle
    try:
        with pytest.raises((OSError, SafetensorError)):
            save_checkpoint(path, {"weight": torch.ones(1 << 20)}, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert load_checkpoint(path)[1] == {"epoch": 1}
    save_checkpoint(path, {"weight": torch.ones(1 << 20)}, {"epoch": 2})  # what was left over is in nobody's way
    assert load_checkpoint(path)[1] == {"epoch": 2}


def test_the_optimizer_goes_on_where_it_stood() -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        module(torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()

    module, optimizer = made()
    step(module, optimizer, 1)
    kept = {name: tensor.clone() for name, tensor in training_tensors(module, optimizer).items()}
    step(module, optimizer, 2)
    other, other_optimizer = made()
    restore_training(other, other_optimizer, kept)
    step(other, other_optimizer, 2)
    expected = training_tensors(module, optimizer)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in training_tensors(other, other_optimizer).items())
    weights_alone, _ = made()
    restore_training(weights_alone, None, kept)
    assert torch.equal(weights_alone[0].weight, kept["model.0.weight"])  # type: ignore[index]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", bytes(400), b"\xff" * 20])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="a checkpoint is a whole file"):
        load_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="a checkpoint is a whole file"):
        load_checkpoint(tmp_path / "absent.safetensors")
