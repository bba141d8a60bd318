"""Scikit-learn's real handwritten digits (Alpaydin and Kaynak 1998, UCI), as a small multi-task classification set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate

from nas.core import DataSpec, Task
from nas.data.dataset import MultiTaskData, Split, input_spec
from nas.data.source import no_file, read_options

SIZE = 32  # pixels a side, from 8
TEST_SHARE = 0.2
LOOPS = np.array([1, 0, 0, 0, 1, 0, 1, 0, 2, 1])  # closed curves in each digit as it is written


class Digits:
    """Data source ``digits``: 1,797 images; tasks ``digit`` (10 classes), ``parity`` (2) and ``loops`` (3)."""

    options: ClassVar[Mapping[str, Any]] = {}

    def tasks(self, spec: DataSpec) -> tuple[Task, ...]:
        """Return the three tasks."""
        no_file(spec)
        read_options(spec, self.options)
        return (
            Task("digit", "classification", 10, labels=tuple(str(digit) for digit in range(10))),
            Task("parity", "classification", 2, labels=("even", "odd")),
            Task("loops", "classification", 3, labels=("no loop", "one loop", "two loops")),
        )

    def shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """Return one grey channel."""
        return 1, SIZE, SIZE

    def load(self, spec: DataSpec, wanted: Sequence[Task]) -> MultiTaskData:
        """Upsample the images; the split is fixed, with each digit's share in both parts."""
        from sklearn.datasets import load_digits  # takes a second to import
        from sklearn.model_selection import train_test_split

        images, digits = load_digits(return_X_y=True)
        small = torch.from_numpy(images).reshape(-1, 1, 8, 8).float() / 16
        inputs = (interpolate(small, size=(SIZE, SIZE), mode="bilinear") * 255).round().to(torch.uint8)
        labels = {"digit": digits, "parity": digits % 2, "loops": LOOPS[digits]}
        targets = {task.name: torch.from_numpy(labels[task.name].astype(np.int64)) for task in wanted}
        every = Split(inputs, targets, flippable=False)
        train, test = train_test_split(np.arange(len(digits)), test_size=TEST_SHARE, stratify=digits, random_state=0)
        part = every.subset(np.sort(train))
        return MultiTaskData(spec.name, tuple(wanted), input_spec(part), part, every.subset([]), every.subset(np.sort(test)))
