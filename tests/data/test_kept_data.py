"""Data that is kept in one file: equal to what was loaded, mapped into memory, and told apart from other data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.core import DataError, DataSpec, Task, TaskSpec
from nas.data import MultiTaskData, Split, check_same, digests, input_spec, keep, load_data, open_kept

TASKS = (
    Task("mask", "segmentation", 3, labels=("a", "b", "c")),
    Task("depth", "depth", 1, weight=0.5),
    Task("side", "classification", 2),
)


def made(seed: int = 0, flippable: bool = False) -> MultiTaskData:
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        return Split(
            torch.from_numpy(rng.integers(0, 256, (count, 2, 6, 5), dtype=np.uint8)),
            {
                "mask": torch.from_numpy(rng.integers(0, 3, (count, 6, 5), dtype=np.uint8)),
                "depth": torch.from_numpy(rng.random((count, 1, 6, 5)).astype(np.float16)),
                "side": torch.from_numpy(rng.integers(-1, 2, count)),
            },
            flippable,
        )

    train, test = split(8), split(4)
    return MultiTaskData("made", TASKS, input_spec(train), train, train.subset([]), test)


def equal(one: MultiTaskData, other: MultiTaskData) -> bool:
    same = (one.name, one.tasks, one.input) == (other.name, other.tasks, other.input)
    for label in ("train", "val", "test"):
        a, b = getattr(one, label), getattr(other, label)
        same = same and a.flippable == b.flippable and torch.equal(a.inputs, b.inputs) and a.inputs.dtype == b.inputs.dtype
        same = same and all(torch.equal(a.targets[t.name], b.targets[t.name]) for t in one.tasks)
    return same


@pytest.mark.parametrize("flippable", [True, False])
def test_kept_data_is_what_was_loaded(tmp_path: Path, flippable: bool) -> None:
    data = made(flippable=flippable)
    written = keep(data, tmp_path / "data.safetensors")
    found, kept = open_kept(tmp_path / "data.safetensors")
    assert equal(found, data)
    assert written == kept == digests(found) == digests(data)
    assert [path.name for path in tmp_path.iterdir()] == ["data.safetensors"]


def test_a_split_that_is_another_one_is_stored_once(tmp_path: Path) -> None:
    data = load_data(DataSpec("digits", val_fraction=0.0), [TaskSpec("digit")], 0)
    assert data.val.inputs.data_ptr() == data.test.inputs.data_ptr()
    keep(data, tmp_path / "whole")
    keep(dataclasses.replace(data, val=data.val.subset([])), tmp_path / "without")
    assert (tmp_path / "whole").stat().st_size < (tmp_path / "without").stat().st_size + 2000
    assert equal(open_kept(tmp_path / "whole")[0], data)


def test_parts_of_one_tensor_are_kept_apart(tmp_path: Path) -> None:
    data = made()
    pool = data.train.inputs
    views = MultiTaskData(
        "views",
        data.tasks,
        data.input,
        Split(pool[:5], {n: t[:5] for n, t in data.train.targets.items()}),
        Split(pool[3:6], {n: t[3:6] for n, t in data.train.targets.items()}),  # overlaps, as a careless split does
        data.test,
    )
    keep(views, tmp_path / "data")
    assert equal(open_kept(tmp_path / "data")[0], views)


def edited(edit: Callable[[MultiTaskData], MultiTaskData]) -> dict[str, str]:
    return digests(edit(made()))


def one_pixel(data: MultiTaskData) -> MultiTaskData:
    inputs = data.train.inputs.clone()
    inputs[3, 0, 2, 2] ^= 1
    return dataclasses.replace(data, train=dataclasses.replace(data.train, inputs=inputs))


def fewer(data: MultiTaskData) -> MultiTaskData:
    return dataclasses.replace(data, test=data.test.subset([0, 1, 2]))


def other_type(data: MultiTaskData) -> MultiTaskData:
    targets = {**data.test.targets, "mask": data.test.targets["mask"].long()}
    return dataclasses.replace(data, test=dataclasses.replace(data.test, targets=targets))


def without_task(data: MultiTaskData) -> MultiTaskData:
    return data.only(data.tasks[:2])


def dealt_anew(data: MultiTaskData) -> MultiTaskData:
    order = [1, 0, *range(2, 8)]
    return dataclasses.replace(data, train=data.train.subset(order))


@pytest.mark.parametrize(
    ("edit", "named", "how"),
    [
        (one_pixel, "train inputs", "its values differ"),
        (dealt_anew, "train inputs", "its values differ"),
        (fewer, "test inputs", r"it is uint8 \(3, 2, 6, 5\) and was uint8 \(4, 2, 6, 5\)"),
        (other_type, "test targets.mask", r"it is int64 .* and was uint8"),
        (without_task, "test targets.side", "it is nothing and was int64"),
    ],
)
def test_other_data_is_refused_by_name(edit: Callable[[MultiTaskData], MultiTaskData], named: str, how: str) -> None:
    kept = digests(made())
    check_same(digests(made()), kept, "when the job began")
    with pytest.raises(DataError, match=rf"{named} is not what it was when the job began \({how}.*seed"):
        check_same(edited(edit), kept, "when the job began")


def test_a_file_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing/data cannot be written .*; free space there, or set NAS_HOME"):
        keep(made(), tmp_path / "missing" / "data")
    assert list(tmp_path.iterdir()) == []
