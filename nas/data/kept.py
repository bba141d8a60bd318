"""Data as it was loaded first: one file that every process of a job maps into memory, and a digest of every tensor in it.

Loading may take long (normals are derived from depth, pictures are decoded), and a loader that draws its splits without a seed
gives other data each time. So data is loaded once, kept in one safetensors file, and read from there by every later process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.core import DataError, InputSpec, Task
from nas.data.dataset import MultiTaskData, Split

SPLITS = ("train", "val", "test")
INPUTS = "inputs"  # of a split; its targets are called ``targets.TASK``
Digests = Mapping[str, str]  # tensor, such as ``train.targets.seg``, to its type, shape and SHA-256


def digests(data: MultiTaskData) -> dict[str, str]:
    """Return what identifies every tensor of `data`, such as ``uint8 (676, 96, 128) 5c0f...``, by its name."""
    return {name: f"{_kind(tensor)} {_sha256(tensor)}" for name, tensor in _tensors(data).items()}


def check_same(found: Digests, kept: Digests, when: str) -> None:
    """Raise unless data is what it was before.

    Args:
        found: Digests of the data as it is loaded now.
        kept: Digests of the data as it was.
        when: What it was then, such as ``when the job began``.

    Raises:
        DataError: A tensor has another type, shape or other values, or one of both lacks it; the message names it.
    """
    for name in sorted({*found, *kept}):
        if found.get(name) == kept.get(name):
            continue
        now, before = (side.get(name, "nothing").rpartition(" ")[0] or "nothing" for side in (found, kept))
        how = f"it is {now} and was {before}" if now != before else "its values differ"
        raise DataError(
            f"a loader gives the same data every time: {name.replace('.', ' ', 1)} is not what it was {when} ({how}); seed "
            "whatever the loader draws, or submit a new job for new data"
        )


def keep(data: MultiTaskData, path: Path) -> dict[str, str]:
    """Write `data` into one file, whole or not at all, and return its digests.

    Raises:
        DataError: The file cannot be written.
    """
    found, aliases = digests(data), _aliases(data)
    facts = {
        "name": data.name,
        "tasks": [dataclasses.asdict(task) for task in data.tasks],
        "input": dataclasses.asdict(data.input),
        "flippable": {split: getattr(data, split).flippable for split in SPLITS},
        "digests": found,
        "aliases": aliases,
    }
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file(_apart(data, aliases), partial, metadata={"facts": json.dumps(facts, allow_nan=False)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"a job keeps its data in its folder: {path} cannot be written ({error}); free space there, or set NAS_HOME"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return found


def open_kept(path: Path) -> tuple[MultiTaskData, dict[str, str]]:
    """Return what `keep` wrote, and its digests. Tensors are parts of the mapped file: nothing is read before it is used."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    tensors |= {name: tensors[first] for name, first in facts["aliases"].items()}
    tasks = tuple(Task(**{**fields, "labels": tuple(fields["labels"])}) for fields in facts["tasks"])
    shape = facts["input"]
    input = InputSpec(**{**shape, "mean": tuple(shape["mean"]), "std": tuple(shape["std"])})
    train, val, test = (
        Split(
            tensors[f"{split}.{INPUTS}"],
            {task.name: tensors[f"{split}.targets.{task.name}"] for task in tasks},
            facts["flippable"][split],
        )
        for split in SPLITS
    )
    return MultiTaskData.of_checked(facts["name"], tasks, input, train, val, test), facts["digests"]


def _tensors(data: MultiTaskData) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        found[f"{name}.{INPUTS}"] = split.inputs
        found |= {f"{name}.targets.{task.name}": split.targets[task.name] for task in data.tasks}
    return found


def _aliases(data: MultiTaskData) -> dict[str, str]:
    """Return which tensors are another one under a second name, as all of ``val`` are where it is the test split."""
    first: dict[tuple[int, str], str] = {}
    return {
        name: owner
        for name, tensor in _tensors(data).items()
        if (owner := first.setdefault((tensor.data_ptr(), _kind(tensor)), name)) != name and tensor.numel()
    }


def _apart(data: MultiTaskData, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """Return what is stored: tensors that share no memory, on the CPU."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(data).items() if name not in aliases}
    return {
        name: tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        for name, tensor in stored.items()
    }


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()
