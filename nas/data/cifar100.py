"""CIFAR-100 (Krizhevsky 2009) as 20 tasks: each superclass tells its own five classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from nas.core import DataSpec, Task
from nas.data.dataset import IGNORE_IMAGE, MultiTaskData, Split, input_spec
from nas.data.npz import read_arrays
from nas.data.source import existing_file, read_options

FILE = "the .npz of cifar100_mtl"


class Cifar100:
    """Data source ``cifar100_mtl``: one task per superclass; an image of another superclass has no label in it.

    `path` is an .npz with ``x_train`` uint8 (n, 32, 32, 3), ``coarse_train`` (superclass), ``within_train`` (class in the
    superclass), ``fine_train``, the same for ``test``, ``coarse_names`` and ``fine_names``.
    """

    options: ClassVar[Mapping[str, Any]] = {}

    def tasks(self, spec: DataSpec) -> tuple[Task, ...]:
        """Read the names of the classes only."""
        read_options(spec, self.options)
        names = ("coarse_names", "fine_names", "coarse_train", "within_train", "fine_train")
        coarse_names, fine_names, coarse, within, fine = read_arrays(self._path(spec), names, FILE)
        return tuple(
            Task(str(name), "classification", 5, labels=tuple(
                str(fine_names[fine[(coarse == i) & (within == j)][0]]) for j in range(5)
            ))
            for i, name in enumerate(coarse_names)
        )  # fmt: skip

    def shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """Return that of all CIFAR images."""
        return 3, 32, 32

    def load(self, spec: DataSpec, wanted: Sequence[Task]) -> MultiTaskData:
        """Read the images and give each its label in its own superclass."""
        path = self._path(spec)
        (names,) = read_arrays(path, ("coarse_names",), FILE)
        splits = {}
        for part in ("train", "test"):
            images, coarse, within = read_arrays(path, (f"x_{part}", f"coarse_{part}", f"within_{part}"), FILE)
            targets = {
                task.name: np.where(names[coarse] == task.name, within.astype(np.int64), IGNORE_IMAGE) for task in wanted
            }
            inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
            splits[part] = Split(inputs, {name: torch.from_numpy(target) for name, target in targets.items()})
        train, test = splits["train"], splits["test"]
        return MultiTaskData(spec.name, tuple(wanted), input_spec(train), train, train.subset([]), test)

    def _path(self, spec: DataSpec) -> Path:
        return existing_file(spec, spec.path, "`path`, the .npz of CIFAR-100 by superclass")
