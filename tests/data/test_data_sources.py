"""Every data set passes the same contract; each has a small file of its own layout, so that no real data is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from nas.core import DataError, DataSpec, TaskSpec
from nas.data import IGNORE_IMAGE, batches, data_options, known_shape, known_tasks, load_data
from nas.data.digits import LOOPS
from nas.data.loading import SOURCES
from nas.data.normals import normals_from_depth
from nas.data.nyuv2 import TO13
from nas.data.scenes import render

SHARED = Path(__file__).parents[3] / "shared" / "data" / "vision"
needs_nyuv2 = pytest.mark.skipif(not (SHARED / "nyuv2_96x128.npz").exists(), reason="no real NYUv2 beside the checkout")
needs_cifar = pytest.mark.skipif(
    not (SHARED / "cifar100_mtl_small.npz").exists(), reason="no real CIFAR-100 beside the checkout"
)

OWN = """
import torch
from nas.core import InputSpec, Task
from nas.data import MultiTaskData, Split

def faces(count: int = 6, path: str = "", keep_val: bool = False):
    split = Split(torch.arange(count * 12, dtype=torch.uint8).view(count, 3, 2, 2), {"smile": torch.arange(count) % 2})
    val = split.subset([0, 1]) if keep_val else split.subset([])
    task = Task("smile", "classification", 2)
    return MultiTaskData("faces", (task,), InputSpec(3, 2, 2, (0.5,) * 3, (0.2,) * 3), split, val, split)

def anything(**options):
    return faces()

def wrong():
    return "not data"

def broken():
    raise RuntimeError("the disk is on fire")

size = 3
"""


def nyuv2_file(folder: Path) -> DataSpec:
    rng = np.random.default_rng(0)
    path = folder / "nyuv2.npz"
    np.savez(
        path,
        rgb=rng.integers(0, 256, (10, 24, 32, 3), dtype=np.uint8),
        depth_u8=rng.integers(20, 250, (10, 24, 32), dtype=np.uint8),
        seg40=rng.integers(0, 40, (10, 24, 32), dtype=np.uint8),
        split=(np.arange(10) >= 7).astype(np.uint8),
        K_fx_fy_cx_cy=np.array([30.0, 30, 16, 12], np.float32),
    )
    return DataSpec("nyuv2", str(path))


def cifar_file(folder: Path) -> DataSpec:
    rng = np.random.default_rng(0)
    path, arrays = folder / "cifar.npz", {}
    fine = np.arange(100)
    for part in ("train", "test"):
        arrays |= {
            f"x_{part}": rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
            f"fine_{part}": fine.astype(np.uint8),
            f"coarse_{part}": (fine // 5).astype(np.uint8),
            f"within_{part}": (fine % 5).astype(np.uint8),
        }
    names = {"coarse_names": [f"group{i}" for i in range(20)], "fine_names": [f"thing{i}" for i in range(100)]}
    np.savez(path, **arrays, **{key: np.array(value) for key, value in names.items()})
    return DataSpec("cifar100_mtl", str(path))


def own_module(folder: Path) -> DataSpec:
    (folder / "own_faces_module.py").write_text(OWN)
    return DataSpec("python:own_faces_module:faces")


MAKERS: dict[str, Callable[[Path], DataSpec]] = {
    "scenes": lambda _: DataSpec("scenes", options={"images": 10, "test_images": 4, "size": 16}),
    "nyuv2": nyuv2_file,
    "digits": lambda _: DataSpec("digits"),
    "cifar100_mtl": cifar_file,
    "python": own_module,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_faces_module", None)


def test_every_data_set_is_under_contract() -> None:
    assert set(MAKERS) == {*SOURCES, "python"}


@pytest.mark.parametrize("name", MAKERS)
def test_contract(name: str, folder: Path) -> None:
    spec = MAKERS[name](folder)
    offered = known_tasks(spec)
    names = [task.name for task in offered] if offered is not None else ["smile"]
    wanted = [TaskSpec(task, weight=1.0 + i) for i, task in enumerate(names[::-1][:4])]
    data = load_data(spec, wanted, seed=0)

    assert [(task.name, task.weight) for task in data.tasks] == [(task.name, task.weight) for task in wanted]
    if offered is not None:
        known = {task.name: task for task in offered}
        assert all(
            (t.kind, t.outputs, t.labels) == (known[t.name].kind, known[t.name].outputs, known[t.name].labels)
            for t in data.tasks
        )
        assert all(not task.labels or len(task.labels) == task.outputs for task in offered)
    shape = (data.input.channels, data.input.height, data.input.width)
    assert known_shape(spec) == (None if name == "python" else shape)
    for split in (data.train, data.val, data.test):
        assert len(split) > 0
        assert set(split.targets) == set(names[::-1][:4])
        x, targets = next(batches(split, data.tasks, 2, None))
        assert x.shape[1:] == (data.input.channels, data.input.height, data.input.width)
        assert set(targets) == set(split.targets)

    again, other = load_data(spec, wanted, seed=0), load_data(spec, wanted, seed=5)
    assert torch.equal(again.val.inputs, data.val.inputs)
    assert torch.equal(again.train.inputs, data.train.inputs)
    assert torch.equal(other.test.inputs, data.test.inputs)  # the test split is untouched
    assert not torch.equal(other.val.inputs, data.val.inputs)

    def pictures(*splits: object) -> set[bytes]:
        return {image.numpy().tobytes() for split in splits for image in split.inputs}  # type: ignore[attr-defined]

    assert pictures(data.train, data.val) == pictures(other.train, other.val)
    assert len(data.val) == max(round(0.15 * (len(data.train) + len(data.val))), 1)

    one = load_data(spec, wanted[:1], seed=0)
    assert set(one.train.targets) == {wanted[0].name}
    assert torch.equal(one.train.targets[wanted[0].name], data.train.targets[wanted[0].name])

    with pytest.raises(DataError, match="has no task"):
        load_data(spec, [TaskSpec("no such task")], seed=0)
    options = data_options(spec.name)
    assert options is not None
    assert set(spec.options) <= set(options)


def test_without_a_share_for_validation_it_is_the_test_split(folder: Path) -> None:
    spec = DataSpec("scenes", options={"images": 4, "test_images": 3, "size": 16}, val_fraction=0.0)
    data = load_data(spec, [TaskSpec("seg")], 0)
    assert len(data.train) == 4
    assert data.val is data.test
    for fraction in (1.0, -0.1, float("nan")):
        with pytest.raises(DataError, match="val_fraction is at least 0 and below 1"):
            load_data(DataSpec(val_fraction=fraction), [TaskSpec("seg")], 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec("scnes"), "did you mean 'scenes'"),
        (DataSpec(options={"imges": 3}), "did you mean 'images'"),
        (DataSpec(options={"size": 7}), "whole number from 16 to 512: got 7; the nearest valid one is 16"),
        (DataSpec(options={"images": "many"}), "whole number .* got 'many'"),
        (DataSpec(options={"images": True}), "whole number"),
        (DataSpec("nyuv2"), "needs `path`"),
        (DataSpec("nyuv2", "nowhere.npz"), "there is no file 'nowhere.npz'"),
        (DataSpec("cifar100_mtl", "nowhere.npz"), "there is no file"),
        (DataSpec("digits", options={"size": 3}), "nothing is allowed"),
        (DataSpec("python:nothing"), "python:package.module:function"),
        (DataSpec("python:no_such_module_anywhere:f"), "cannot be found; run from the folder"),
        (DataSpec("python:json:lods"), "did you mean 'loads'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_loaded(spec: DataSpec, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message):
        known_tasks(spec)


@pytest.mark.parametrize("name", ["nyuv2", "cifar100_mtl"])
def test_a_file_of_another_kind_is_refused(name: str, folder: Path) -> None:
    np.savez(folder / "other.npz", a=np.zeros(3))
    (folder / "text.npz").write_text("hello")
    for file in ("other.npz", "text.npz"):
        with pytest.raises(DataError, match=r"is not the \.npz"):
            load_data(DataSpec(name, file), [TaskSpec("seg" if name == "nyuv2" else "fish")], 0)


@pytest.mark.parametrize("make", [nyuv2_file, cifar_file])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "page", "no header"])
def test_a_file_that_did_not_arrive_whole_is_one_sentence(make: Callable[[Path], DataSpec], damage: str, folder: Path) -> None:
    spec = make(folder)
    path = Path(str(spec.path))
    whole = path.read_bytes()
    third = len(whole) // 3
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: 2 * third],
            "zeros": whole[:third] + bytes(200) + whole[third + 200 :],
            "page": b"<!DOCTYPE html><html>404 not found</html>",
            "no header": whole[:30] + bytes(60) + whole[90:],
        }[damage]
    )
    with pytest.raises(DataError, match=r"is not the \.npz of") as caught:
        load_data(spec, [TaskSpec("seg" if spec.name == "nyuv2" else "group1")], 0)
    assert "\n" not in str(caught.value)


def test_arrays_of_other_shapes_are_one_sentence(folder: Path) -> None:
    spec = nyuv2_file(folder)
    with np.load(str(spec.path)) as file:
        arrays = dict(file)
    np.savez(str(spec.path), **arrays | {"depth_u8": arrays["depth_u8"][:, :-1]})
    with pytest.raises(DataError, match=r"its arrays have the shapes"):
        load_data(spec, [TaskSpec("depth")], 0)
    np.savez(str(spec.path), **arrays | {"seg40": np.array([["a"]])})
    with pytest.raises(DataError, match=r"cannot be read \("):
        load_data(spec, [TaskSpec("seg")], 0)


def test_a_users_own_function(folder: Path) -> None:
    spec = own_module(folder)
    assert known_tasks(spec) is None
    assert data_options(spec.name) == ("count", "path", "keep_val")
    assert data_options("python:own_faces_module:anything") is None
    data = load_data(DataSpec(spec.name, options={"count": 20, "keep_val": True}), [TaskSpec("smile")], 0)
    assert (len(data.train), len(data.val)) == (20, 2)  # its own validation split is kept
    cases = {
        "wrong": "has to return a nas.data.MultiTaskData: got str",
        "broken": "failed: RuntimeError: the disk is on fire",
        "size": "has no function 'size'",
    }
    for function, message in cases.items():
        with pytest.raises(DataError, match=message):
            load_data(DataSpec(f"python:own_faces_module:{function}"), [TaskSpec("smile")], 0)
    with pytest.raises(DataError, match="did you mean 'count'"):
        load_data(DataSpec(spec.name, options={"cuont": 3}), [TaskSpec("smile")], 0)
    assert str(folder) not in sys.path


def test_digits_have_true_labels_and_a_stratified_split() -> None:
    data = load_data(DataSpec("digits"), [TaskSpec("digit"), TaskSpec("parity"), TaskSpec("loops")], 0)
    for split in (data.train, data.val, data.test):
        assert torch.equal(split.targets["parity"], split.targets["digit"] % 2)
        assert torch.equal(split.targets["loops"], torch.from_numpy(LOOPS)[split.targets["digit"]])
        assert not split.flippable
    share = torch.bincount(data.test.targets["digit"], minlength=10) / len(data.test)
    assert (share - 0.1).abs().max() < 0.01
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert 200 < data.train.inputs.max() <= 255


def test_cifar_labels_exist_only_in_the_images_own_superclass(folder: Path) -> None:
    spec = cifar_file(folder)
    tasks = known_tasks(spec)
    assert tasks is not None
    assert tasks[3].labels == ("thing15", "thing16", "thing17", "thing18", "thing19")
    data = load_data(spec, [TaskSpec(task.name) for task in tasks], 0)
    every = torch.stack([data.test.targets[task.name] for task in tasks])
    assert ((every != IGNORE_IMAGE).sum(dim=0) == 1).all()
    assert every.max(dim=0).values.tolist() == [i % 5 for i in range(100)]


def test_normals_of_a_plane_equal_its_closed_form() -> None:
    fx, fy, cx, cy = 60.0, 55.0, 31.0, 22.0
    normal = np.array([0.3, -0.4, -0.8]) / np.linalg.norm([0.3, -0.4, -0.8])
    y, x = np.mgrid[:48, :64]
    depth = 3.0 / (-(normal[0] * (x - cx) / fx + normal[1] * (y - cy) / fy + normal[2]))  # n·p = -3
    derived = normals_from_depth(depth[None], (fx, fy, cx, cy))[0].astype(float)
    assert derived.dtype == np.float64
    inner = derived[:, 8:-8, 8:-8]  # the filters reflect at the border
    angle = np.rad2deg(np.arccos((inner * normal[:, None, None]).sum(axis=0).clip(-1, 1)))
    assert angle.max() < 1.5  # the depth of a slanted plane is curved, and the filters flatten that


def test_normals_from_a_rendered_depth_map_equal_the_rendered_normals() -> None:
    split = render(4, 128, np.random.default_rng(1))
    truth = split.targets["normals"].numpy().astype(np.float32)
    derived = normals_from_depth(split.targets["depth"][:, 0].numpy(), (128.0, 128.0, 63.5, 63.5)).astype(np.float32)
    # Where all pixels within the filters' reach lie on one plane; elsewhere the filters smooth across an edge.
    reach = (1, 1, 19, 19)
    flat = (ndimage.maximum_filter(truth, reach) - ndimage.minimum_filter(truth, reach) < 0.01).all(axis=1)
    flat[:, :8], flat[:, -8:], flat[:, :, :8], flat[:, :, -8:] = False, False, False, False  # they reflect at the border
    angle = np.rad2deg(np.arccos((derived * truth).sum(axis=1).clip(-1, 1)))
    assert flat.mean() > 0.2
    assert np.median(angle[flat]) < 1
    assert np.percentile(angle[flat], 99) < 5


def test_the_official_file_says_what_it_needs(folder: Path) -> None:
    (folder / "nyu.mat").write_bytes(b"x")
    with pytest.raises(DataError, match="option `split`"):
        known_tasks(DataSpec("nyuv2", "nyu.mat"))
    (folder / "splits.mat").write_bytes(b"x")
    spec = DataSpec("nyuv2", "nyu.mat", {"split": "splits.mat"})
    assert known_tasks(spec)
    try:
        import h5py  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="pip install h5py"):
            load_data(spec, [TaskSpec("depth")], 0)
    else:
        with pytest.raises(DataError, match="classMapping40"):
            load_data(spec, [TaskSpec("seg")], 0)
        with pytest.raises(DataError, match=r"nyu\.mat"):
            load_data(spec, [TaskSpec("depth")], 0)


def test_the_official_file_is_read(folder: Path) -> None:
    """A file of the official layout: transposed as MATLAB writes it, labels of 894 classes, indices from 1."""
    h5py = pytest.importorskip("h5py")
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (4, 3, 1, 1), dtype=np.uint8), 640, 2).repeat(480, 3)  # one colour per image
    depths = np.broadcast_to(np.linspace(1, 5, 640, dtype=np.float32)[None, :, None], (4, 640, 480))  # farther to the right
    labels = np.zeros((4, 640, 480), np.uint16)
    labels[:, :, 240:] = 7  # the lower half
    with h5py.File(folder / "nyu.mat", "w") as file:
        file["images"], file["depths"], file["labels"] = images, depths, labels
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2], [4]])})
    savemat(folder / "map.mat", {"mapClass": np.full((1, 894), 5)})  # every label is class 5 of 40: chair
    spec = DataSpec("nyuv2", "nyu.mat", {"split": "splits.mat", "classes": "map.mat", "size": 48}, val_fraction=0.0)
    data = load_data(spec, [TaskSpec("seg"), TaskSpec("seg40"), TaskSpec("depth"), TaskSpec("normals")], 0)
    assert data.train.inputs.shape == (2, 3, 48, 64)
    assert known_shape(spec) == (3, 48, 64)
    assert data.train.inputs[:, :, 0, 0].tolist() == images[[0, 2], :, 0, 0].tolist()
    assert data.test.targets["depth"][0, 0, 0, 0] < 1.1
    assert data.test.targets["depth"][0, 0, 0, -1] > 4.9
    assert data.train.targets["seg40"][0, :24].unique().tolist() == [255]
    assert data.train.targets["seg40"][0, 24:].unique().tolist() == [4]
    assert data.train.targets["seg"][0, 24:].unique().tolist() == [3]


@needs_nyuv2
def test_real_nyuv2() -> None:
    spec = DataSpec("nyuv2", str(SHARED / "nyuv2_96x128.npz"))
    data = load_data(spec, [TaskSpec("seg"), TaskSpec("depth")], 0)
    assert (len(data.train) + len(data.val), len(data.test)) == (795, 654)
    with np.load(spec.path) as file:
        test = file["split"] == 1
        np.testing.assert_array_equal(data.test.targets["seg"].numpy(), file["seg13"][test])  # the table of 40 to 13
        metres = file["depth_u8"][test].astype(float) * 10 / 255
    np.testing.assert_allclose(data.test.targets["depth"][:, 0].numpy(), metres, atol=4e-3)
    assert len(TO13) == 40


@needs_cifar
def test_real_cifar() -> None:
    spec = DataSpec("cifar100_mtl", str(SHARED / "cifar100_mtl_small.npz"))
    tasks = known_tasks(spec)
    assert tasks is not None
    assert {task.name: set(task.labels) for task in tasks}["people"] == {"baby", "boy", "girl", "man", "woman"}
    data = load_data(spec, [TaskSpec("people")], 0)
    assert (data.test.targets["people"] >= 0).sum() == 50
