"""Targets that break their kind's promise are refused when they are loaded, with the encoding that is likely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.core import DataError, DataSpec, Task, TaskSpec
from nas.data import MultiTaskData, Split, input_spec, load_data
from nas.data.values import check_values

NORMALS, DEPTH = Task("n", "normals", 3), Task("d", "depth", 1)
MASK, PARTS = Task("m", "segmentation", 2), Task("p", "segmentation", 300)


def normals(dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors with holes, as a camera that does not see everything gives them."""
    vectors = torch.nn.functional.normalize(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[:, :, :2] = 0
    return vectors.to(dtype)


def mask(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).repeat(3, 8, 8)[..., :8]


ACCEPTED = {
    "unit vectors and holes": (NORMALS, normals()),
    "half precision": (NORMALS, normals(torch.float16)),
    "eight bits, decoded": (NORMALS, torch.where(normals() == 0, 0, ((normals() + 1) * 127.5).round() / 127.5 - 1)),
    "zero depths": (DEPTH, torch.tensor([0.0, 1.0, 9.5]).view(3, 1, 1, 1).expand(3, 1, 8, 8)),
    "millimetres": (DEPTH, torch.full((3, 1, 8, 8), 2500.0)),
    "a mask with unknown pixels": (MASK, mask(0, 1, 255)),
    "background alone": (MASK, mask(0)),
}
REFUSED = {
    "as a picture": (NORMALS, (normals() + 1) / 2, r"d\.train\.n holds .* they look like \(n \+ 1\) / 2, .* write 2 \* n - 1"),
    "as bytes": (NORMALS, ((normals() + 1) * 127.5).round(), r"they look like \(n \+ 1\) \* 127\.5, .* write n / 127\.5 - 1"),
    "of any length": (NORMALS, normals() * 3, r"length 1, or 0 where there is none: .* length 3; divide each by its length"),
    "interpolated": (NORMALS, normals() * torch.linspace(0.5, 1, 8), "divide each by its length"),
    "infinite depth": (DEPTH, torch.full((3, 1, 8, 8), np.inf), r"zero or more, and finite: d\.train\.d holds inf; write 0"),
    "missing depth": (DEPTH, torch.full((3, 1, 8, 8), np.nan), "holds nan; write 0 where there is none"),
    "some negative": (DEPTH, torch.linspace(-1, 1, 64).view(1, 1, 8, 8).repeat(3, 1, 1, 1), "holds -1; write 0"),
    "backwards": (DEPTH, torch.full((3, 1, 8, 8), -2.0), "the axis points backwards: turn the sign around"),
    "0 and 255": (MASK, mask(0, 255), r"holds 255 and no 1, as pictures store masks; write mask // 255"),
}


@pytest.mark.parametrize(("task", "target"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_keeps_the_promise_is_taken(task: Task, target: Tensor) -> None:
    check_values("d", task, {"train": target, "val": target[:0], "test": target})


@pytest.mark.parametrize(("task", "target", "message"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_it_is_refused_with_the_likely_encoding(task: Task, target: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_values("d", task, {"train": target, "test": target})


def test_a_split_stored_in_another_way_than_the_training_images_is_found() -> None:
    with pytest.raises(DataError, match=r"d\.test\.m holds 255 and no 1"):
        check_values("d", MASK, {"train": mask(0, 1), "test": mask(0, 255)})
    check_values("d", MASK, {"train": mask(0, 1, 255), "test": mask(0, 255)})  # 255 is known to be what nobody knows
    with pytest.raises(DataError, match=r"d\.val\.n holds"):
        check_values("d", NORMALS, {"train": normals(), "val": (normals() + 1) / 2})


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        (PARTS, [0, 255, 299, -1], None),
        (PARTS, [300], r"classes are 0 to 299, or -1 to be ignored: x\.train\.p holds \[300\]"),
        (Task("p", "segmentation", 255), [0, 254, 255], None),
        (Task("p", "segmentation", 255), [-1], "write 255 where there is no class"),
        (Task("p", "segmentation", 256), [0, 255, -1], None),
        (Task("p", "segmentation", 3), [1, 2, 3], "these count from 1: write them less 1"),
        (MASK, [0, 128], r"holds \[128\]; number the classes from 0, or give the task more outputs"),
    ],
)
def test_one_number_stands_for_no_class(task: Task, values: list[int], message: str | None) -> None:
    target = torch.tensor(values).repeat(2, 4, 1)
    split = Split(torch.zeros(2, 3, *target.shape[1:], dtype=torch.uint8), {"p": target, "m": target})
    if message is None:
        MultiTaskData("x", (task,), input_spec(split), split, split.subset([]), split)
        return
    with pytest.raises(DataError, match=message):
        MultiTaskData("x", (task,), input_spec(split), split, split.subset([]), split)


def test_a_mask_that_is_not_of_whole_numbers_says_how_to_convert_it() -> None:
    target = mask(0, 1).float()
    split = Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), {"m": target})
    with pytest.raises(DataError, match=r"x\.train\.m is float32 .*; convert it with \.long\(\)"):
        MultiTaskData("x", (MASK,), input_spec(split), split, split.subset([]), split)


def test_loading_checks_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "normals_of_my_own.py").write_text(
        "import torch\nfrom nas.core import Task\nfrom nas.data import MultiTaskData, Split, input_spec\n"
        "def load():\n"
        "    split = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), {'n': torch.full((4, 3, 8, 8), 0.5)})\n"
        "    return MultiTaskData('own', (Task('n', 'normals', 3),), input_spec(split), split, split.subset([]), split)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"own\.train\.n holds one of length 0\.866"):
        load_data(DataSpec("python:normals_of_my_own:load", val_fraction=0.25), [TaskSpec("n")], 0)
