"""Splits, shards, batches and augmentation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import DataError, InputSpec, Task
from nas.data import MultiTaskData, Split, batches, input_spec, shard
from nas.data.augment import JITTER, flipped, jittered
from nas.data.scenes import render

TASKS = (
    Task("seg", "segmentation", 6),
    Task("depth", "depth", 1),
    Task("normals", "normals", 3),
    Task("label", "classification", 4),
)


@pytest.fixture(scope="module")
def split() -> Split:
    scenes = render(10, 16, np.random.default_rng(0))
    return Split(scenes.inputs, {**scenes.targets, "label": torch.arange(10) % 4})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_in_order_every_image_comes_once(split: Split) -> None:
    parts = list(batches(split, TASKS, 4, None))
    assert [len(x) for x, _ in parts] == [4, 4, 2]
    x = torch.cat([x for x, _ in parts])
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round().to(torch.uint8), split.inputs)
    for task in TASKS:
        target = torch.cat([t[task.name] for _, t in parts])
        assert target.dtype == (torch.float32 if task.kind in ("depth", "normals") else torch.int64)
        assert torch.equal(target.double(), split.targets[task.name].double())


def test_shuffled_batches_are_full_distinct_and_repeat_with_the_seed(split: Split) -> None:
    plain = Split(split.inputs, {"label": torch.arange(10)})
    task = [Task("label", "classification", 10)]

    def order(seed: int, size: int) -> list[int]:
        return [int(i) for _, t in batches(plain, task, size, generator(seed)) for i in t["label"]]

    assert len(order(0, 4)) == 8
    assert len(set(order(0, 4))) == 8
    assert order(0, 4) == order(0, 4) != order(1, 4)
    assert sorted(order(0, 32)) == list(range(10))  # the only batch is kept, though partial


def test_the_next_epoch_differs(split: Split) -> None:
    source = generator()
    first, second = (torch.cat([t["label"] for _, t in batches(split, TASKS, 5, source)]) for _ in range(2))
    assert not torch.equal(first, second)


def test_augmentation_needs_a_generator_and_is_deterministic_under_it(split: Split) -> None:
    with pytest.raises(ValueError, match="generator"):
        next(batches(split, TASKS, 4, None, augment=True))
    with pytest.raises(ValueError, match="at least one image"):
        next(batches(split, TASKS, 0, None))
    one, two, other = (list(batches(split, TASKS, 4, generator(seed), augment=True)) for seed in (3, 3, 4))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1]["normals"], b[1]["normals"]) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0][0], other[0][0])
    assert all(x.min() >= 0 and x.max() <= 1 for x, _ in one)


def test_digits_are_not_mirrored(split: Split) -> None:
    still = Split(split.inputs, {"depth": split.targets["depth"]}, flippable=False)
    seen = torch.cat([t["depth"] for _, t in batches(still, TASKS[1:2], 5, generator(), augment=True)])
    original = {target.numpy().tobytes() for target in still.targets["depth"]}
    assert all(target.numpy().tobytes() in original for target in seen)
    assert not still.subset([0]).flippable
    assert not still.to("cpu").flippable


@settings(deadline=None, max_examples=25)
@given(mask=st.lists(st.booleans(), min_size=10, max_size=10))
def test_flipping_twice_is_the_identity_and_once_mirrors_only_the_mask(split: Split, mask: list[bool]) -> None:
    chosen = torch.tensor(mask)
    x, targets = next(batches(split, TASKS, 10, None))
    x1, t1 = flipped(x, targets, TASKS, chosen)
    x2, t2 = flipped(x1, t1, TASKS, chosen)
    assert torch.equal(x, x2)
    assert all(torch.equal(targets[name], t2[name]) for name in targets)
    for i, on in enumerate(mask):
        columns = range(15, -1, -1) if on else range(16)
        sign = torch.tensor([-1.0 if on else 1.0, 1.0, 1.0]).view(3, 1, 1)
        assert torch.equal(x1[i], x[i][..., list(columns)])
        assert torch.equal(t1["seg"][i], targets["seg"][i][..., list(columns)])
        assert torch.equal(t1["normals"][i], targets["normals"][i][..., list(columns)] * sign)
    assert torch.equal(t1["label"], targets["label"])


def test_normals_of_a_mirrored_depth_map_are_the_mirrored_normals() -> None:
    """The flip of the normals agrees with deriving normals anew from the flipped depth."""
    from nas.data.normals import normals_from_depth

    depth = render(3, 32, np.random.default_rng(5), ["depth"]).targets["depth"]
    camera = (32.0, 32.0, 15.5, 15.5)  # the principal point in the middle, so that mirroring keeps the camera

    def derive(d: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(normals_from_depth(d[:, 0].numpy(), camera)).float()

    target = {"normals": derive(depth)}
    _, mirrored = flipped(torch.zeros(3, 3, 32, 32), target, TASKS[2:3], torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(mirrored["normals"], derive(depth.flip(-1)), atol=4e-3, rtol=0)


def test_jitter_scales_brightness_contrast_and_saturation_of_each_image_on_its_own() -> None:
    grey = torch.full((64, 3, 4, 4), 0.5)
    out = jittered(grey, generator())
    level = out[:, 0, 0, 0]
    assert torch.allclose(out, level.view(-1, 1, 1, 1).expand_as(out), atol=1e-6)  # neither contrast nor saturation to change
    assert level.min() >= 0.5 * (1 - JITTER) - 1e-6
    assert level.max() <= 0.5 * (1 + JITTER) + 1e-6
    assert level.std() > 0.05
    assert jittered(torch.rand(2, 1, 4, 4, generator=generator()), generator()).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("world", "even", "sizes"), [(3, False, [4, 3, 3]), (3, True, [3, 3, 3]), (4, True, [2] * 4), (1, True, [10])]
)
def test_shards_cover_the_split_without_overlap(split: Split, world: int, even: bool, sizes: list[int]) -> None:
    numbered = Split(split.inputs, {"i": torch.arange(10)})
    shards = [shard(numbered, rank, world, even) for rank in range(world)]
    assert [len(s) for s in shards] == sizes
    seen = torch.cat([s.targets["i"] for s in shards]).tolist()
    assert sorted(seen) == list(range(sum(sizes)))
    with pytest.raises(ValueError, match="rank"):
        shard(numbered, world, world)


def test_input_spec_is_the_mean_and_deviation_of_the_pixels(split: Split) -> None:
    spec = input_spec(split)
    pixels = split.inputs.double() / 255
    assert spec.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert spec.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    assert (spec.channels, spec.height, spec.width) == (3, 16, 16)


def test_splits_and_data_can_be_sent_to_another_process(split: Split) -> None:
    data = MultiTaskData("d", TASKS, input_spec(split), split, split.subset([]), split)
    back = pickle.loads(pickle.dumps(data))
    assert back.tasks == TASKS
    assert torch.equal(back.train.inputs, split.inputs)
    assert data.task("depth").kind == "depth"
    with pytest.raises(DataError, match="did you mean 'depth'"):
        data.task("dept")


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        (
            "seg",
            torch.full((10, 16, 16), 6, dtype=torch.uint8),
            r"classes are 0 to 5, or 255 to be ignored: d.train.seg holds \[6\]",
        ),
        ("seg", torch.zeros(10, 16, 8, dtype=torch.uint8), "uint8 of shape"),
        ("seg", torch.zeros(10, 16, 16), "segmentation target is uint8 or int64"),
        ("depth", torch.zeros(10, 16, 16), "depth target is floating point of shape"),
        ("normals", torch.full((10, 3, 16, 16), float("nan")), "finite"),
        ("label", torch.full((10,), 4), "classes are 0 to 3, or -1"),
        ("label", torch.zeros(10), "classification target is int64"),
    ],
)
def test_a_malformed_target_is_named(split: Split, name: str, target: torch.Tensor, message: str) -> None:
    bad = Split(split.inputs, {**split.targets, name: target})
    with pytest.raises(DataError, match=message):
        MultiTaskData("d", TASKS, input_spec(split), bad, split, split)


def test_a_malformed_split_or_data_set_is_named(split: Split) -> None:
    with pytest.raises(DataError, match=r"uint8 tensor of shape .* got float32"):
        Split(torch.zeros(2, 3, 4, 4), {})
    with pytest.raises(DataError, match="one entry per image"):
        Split(split.inputs, {"label": torch.zeros(3)})
    with pytest.raises(DataError, match="is ndarray"):
        Split(split.inputs, {"label": np.zeros(10)})  # type: ignore[dict-item]
    spec = input_spec(split)
    with pytest.raises(DataError, match=r"d\.test is empty"):
        MultiTaskData("d", TASKS, spec, split, split, split.subset([]))
    with pytest.raises(DataError, match=r"d\.val\.depth is missing"):
        MultiTaskData("d", TASKS, spec, split, Split(split.inputs, {"seg": split.targets["seg"]}), split)
    with pytest.raises(DataError, match=r"has the shape of `input`, \(3, 8, 16\)"):
        MultiTaskData("d", TASKS, InputSpec(3, 8, 16, spec.mean, spec.std), split, split, split)
    with pytest.raises(DataError, match="each named once"):
        MultiTaskData("d", (TASKS[0], TASKS[0]), spec, split, split, split)
