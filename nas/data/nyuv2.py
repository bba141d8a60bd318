"""NYU Depth v2 (Silberman et al., ECCV 2012): 1,449 indoor images, official split of 795 and 654.

Two forms are read, by the ending of `path`:

- ``.npz``: arrays ``rgb`` uint8 (n, h, w, 3), ``depth_u8`` (metres = value * 10 / 255), ``seg13``, ``seg40``, ``split``
  (0 train, 1 test) and ``K_fx_fy_cx_cy``;
- ``.mat``: the official ``nyu_depth_v2_labeled.mat``, resized to `size`, with the options `split` (the official
  ``splits.mat``) and, for segmentation, `classes` (``classMapping40.mat`` of Gupta et al., CVPR 2013).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nas.core import DataError, DataSpec, Task
from nas.data.dataset import IGNORE_PIXEL, MultiTaskData, Split, input_spec
from nas.data.normals import normals_from_depth
from nas.data.npz import npz_shape, read_arrays
from nas.data.source import existing_file, integer_option, read_options

LABELS13 = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)
LABELS40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "blinds",
    "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books", "refrigerator",
    "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip
# Class of Couprie et al. (2013) of each of the 40; "other prop" has none here, since it is mixed with what is unlabelled.
TO13 = (
    11,
    4,
    5,
    0,
    3,
    8,
    9,
    11,
    12,
    5,
    7,
    5,
    12,
    9,
    5,
    12,
    5,
    6,
    6,
    4,
    6,
    2,
    1,
    5,
    10,
    6,
    6,
    6,
    6,
    6,
    6,
    5,
    6,
    6,
    6,
    6,
    6,
    6,
    5,
    255,
)
FILE = "the .npz of nyuv2"
KINECT = (518.85790, 519.46961, 325.58245, 253.73617)  # fx, fy, cx, cy of the RGB camera at 640 x 480, from the toolbox


@dataclass(frozen=True)
class Arrays:
    """NumPy arrays of all images.

    Attributes:
        rgb: uint8, (n, 3, h, w).
        depth: Metres, float16, (n, h, w).
        seg40: uint8, (n, h, w); None where it was not asked.
        is_test: bool, (n,).
        camera: fx, fy, cx, cy in pixels of these images.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    seg40: NDArray[np.uint8] | None
    is_test: NDArray[np.bool_]
    camera: tuple[float, float, float, float]


class NYUv2:
    """Data source ``nyuv2``: tasks ``seg`` (13 classes), ``seg40``, ``depth`` and ``normals``, derived from depth."""

    options: ClassVar[Mapping[str, Any]] = {"size": 96, "split": None, "classes": None}

    def tasks(self, spec: DataSpec) -> tuple[Task, ...]:
        """Return the four tasks, if the file is there and is an .npz where it is called so."""
        self.shape(spec)
        return (
            Task("seg", "segmentation", 13, labels=LABELS13),
            Task("seg40", "segmentation", 40, labels=LABELS40),
            Task("depth", "depth", 1),
            Task("normals", "normals", 3),
        )

    def shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """Read the header of the file's images, or derive it from the option `size`."""
        self._reader(spec)
        path = existing_file(spec, spec.path, "`path`")
        if path.suffix == ".npz":
            _, height, width, channels = npz_shape(path, "rgb", FILE)
            return channels, height, width
        height = integer_option(spec, read_options(spec, self.options), "size", 24, 480)
        return 3, height, height * 4 // 3

    def load(self, spec: DataSpec, wanted: Sequence[Task]) -> MultiTaskData:
        """Read the file and derive what is asked."""
        names = {task.name for task in wanted}
        arrays = self._reader(spec)(not names.isdisjoint({"seg", "seg40"}))
        targets: dict[str, NDArray[Any]] = {}
        if arrays.seg40 is not None:
            table = np.full(256, IGNORE_PIXEL, np.uint8)
            table[: len(TO13)] = TO13
            targets |= {"seg": table[arrays.seg40], "seg40": arrays.seg40}
        targets["depth"] = arrays.depth[:, None]
        if "normals" in names:
            targets["normals"] = normals_from_depth(arrays.depth, arrays.camera)
        train, test = (
            Split(
                torch.from_numpy(arrays.rgb[part]),
                {task.name: torch.from_numpy(targets[task.name][part]) for task in wanted},
            )
            for part in (~arrays.is_test, arrays.is_test)
        )
        return MultiTaskData(spec.name, tuple(wanted), input_spec(train), train, train.subset([]), test)

    def _reader(self, spec: DataSpec) -> Callable[[bool], Arrays]:
        """Check the options and return what reads the file; its argument says whether segmentation is asked."""
        options = read_options(spec, self.options)
        path = existing_file(spec, spec.path, "`path`, the .npz or the official nyu_depth_v2_labeled.mat")
        if path.suffix == ".npz":
            given = sorted(name for name in spec.options)
            if given:
                raise DataError(f"options of data {spec.name!r} are for the .mat file; an .npz takes none: got {given}")
            return lambda segmentation: read_npz(path, segmentation)
        if path.suffix != ".mat":
            raise DataError(f"data {spec.name!r} is an .npz or a .mat file: got {str(path)!r}")
        height = integer_option(spec, options, "size", 24, 480)
        split = existing_file(spec, options["split"], "option `split`, the official splits.mat")
        classes = options["classes"] and existing_file(spec, options["classes"], "option `classes`, classMapping40.mat")
        return lambda segmentation: read_mat(path, split, classes if segmentation else None, height, segmentation)


def read_npz(path: Path, segmentation: bool) -> Arrays:
    """Read the compact form.

    In it, class 39 of ``seg40`` holds both "other prop" and what nobody labelled, so that it is ignored.
    """
    names = ["rgb", "depth_u8", "split", "K_fx_fy_cx_cy", *(["seg40"] if segmentation else [])]
    rgb, depth, split, camera, *labels = read_arrays(path, names, FILE)
    images = rgb.shape[:1], rgb.shape[:3]
    if rgb.ndim != 4 or rgb.shape[3] != 3 or (split.shape, depth.shape) != images or camera.shape != (4,):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(names, (rgb, depth, split, camera), strict=False))
        raise DataError(f"{path} is not {FILE}: its arrays have the shapes {shapes}; fetch or make it again")
    fx, fy, cx, cy = (float(value) for value in camera)
    seg40 = labels[0] if labels else None
    if seg40 is not None:
        seg40 = np.where(seg40 == 39, np.uint8(IGNORE_PIXEL), seg40)
    metres = (np.arange(256) * (10 / 255)).astype(np.float16)
    return Arrays(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)), metres[depth], seg40, split == 1, (fx, fy, cx, cy))


def read_mat(path: Path, split: Path, classes: Path | None, height: int, segmentation: bool) -> Arrays:
    """Read the official file, resized to `height` rows and 4/3 as many columns.

    Colours are averaged over the source pixels that fall into each pixel; depth and classes are those of the nearest
    source pixel, since a mean across an edge is neither surface.
    """
    try:
        h5py = importlib.import_module("h5py")  # an optional dependency, for this file alone
    except ImportError:
        raise DataError(f"reading {path.name} needs the package h5py, which is not installed: run `pip install h5py`") from None
    if segmentation and classes is None:
        raise DataError("segmentation of the official nyuv2 file needs option `classes`, the path of classMapping40.mat")
    try:
        with h5py.File(path, "r") as file:
            rgb, depth, labels = _resized(file["images"], file["depths"], file["labels"] if segmentation else None, height)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not the official nyu_depth_v2_labeled.mat (images, depths, labels): {error}") from error
    seg40 = None
    if labels is not None and classes is not None:
        mapping = _matlab(classes, "mapClass").ravel().astype(int)
        table = np.concatenate([[IGNORE_PIXEL], mapping - 1]).astype(np.uint8)  # label 0 is unlabelled
        seg40 = table[labels]
    is_test = np.isin(np.arange(len(rgb)), _matlab(split, "testNdxs").ravel().astype(int) - 1)
    scale = height / 480
    fx, fy, cx, cy = (scale * value for value in KINECT)
    return Arrays(rgb, depth, seg40, is_test, (fx, fy, cx, cy))


def _resized(
    images: Any, depths: Any, labels: Any | None, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.uint16] | None]:
    """Return small copies of HDF5 arrays, image by image: MATLAB wrote (n, 3, width, height) and (n, width, height)."""
    count, full_width, full_height = depths.shape
    width = height * 4 // 3
    nearest = np.ix_(
        ((np.arange(height) + 0.5) * full_height / height).astype(int),
        ((np.arange(width) + 0.5) * full_width / width).astype(int),
    )
    rgb = np.empty((count, 3, height, width), np.uint8)
    depth = np.empty((count, height, width), np.float16)
    classes = None if labels is None else np.empty((count, height, width), np.uint16)
    for i in range(count):
        rgb[i] = _area_mean(images[i].transpose(0, 2, 1), height, width)
        depth[i] = depths[i].T[nearest]
        if classes is not None and labels is not None:
            classes[i] = labels[i].T[nearest]
    return rgb, depth, classes


def _area_mean(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return (3, h, w) resized by averaging the area under each new pixel."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).float()
    small = torch.nn.functional.interpolate(tensor[None], size=(height, width), mode="area")[0]
    result: NDArray[np.uint8] = small.round().to(torch.uint8).numpy()
    return result


def _matlab(path: Path, name: str) -> NDArray[Any]:
    """Return one array of a MATLAB file of version 5."""
    from scipy.io import loadmat

    try:
        content: Mapping[str, NDArray[Any]] = loadmat(path)
        return content[name]
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise DataError(f"{path} does not hold the MATLAB array {name!r}: {error}") from error
