"""Checkpoints: named tensors and a few facts in one safetensors file, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from nas.core import UserError
from nas.core.json_text import to_json
from nas.core.unforeseen import one_line


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Write a checkpoint and return the first 16 digits of its SHA-256.

    Args:
        path: Replaced in one step, so that a reader finds the old file or the new one.
        tensors: By name; copied to the CPU.
        facts: JSON-able; a number that is NaN comes back as None.
    """
    partial = path.with_suffix(".partial")
    # A tensor may be a channels_last view; safetensors stores plain memory.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, partial, metadata={"facts": to_json(facts, sort_keys=True)})
    digest = sha256(partial)
    partial.replace(path)
    return digest[:16]


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the facts of a checkpoint.

    Raises:
        UserError: The file is gone or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"a checkpoint is a whole file: {path} is not ({one_line(error)}); put it back, or run the job again"
        ) from None


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def training_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return weights as ``model.NAME`` and the optimizer's state as ``optimizer.NAME.KEY``."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_training(module: nn.Module, optimizer: Optimizer | None, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `training_tensors` returned; without an optimizer, the weights alone."""
    module.load_state_dict(part(tensors, "model."))
    if optimizer is None:
        return
    for name, parameter in module.named_parameters():
        prefix = f"optimizer.{name}."
        state = part(tensors, prefix)
        # Moments take the memory layout of their parameter: the fused optimizer walks both in storage order.
        optimizer.state[parameter] = {
            key: torch.empty_like(parameter, requires_grad=False).copy_(value)
            if value.shape == parameter.shape and key != "step"
            else value.to(parameter.device)
            for key, value in state.items()
        }
