"""The default data: generated pictures of shaded solids in a room, with exact classes, depth and surface normals.

Every picture is a room (a floor and three walls, yawed) with up to eight spheres, boxes, cylinders and cones, standing on
the floor or tilted, seen by a pinhole camera of about eye height. Colours, textures and light are drawn from the same
distributions for all classes, so that a colour says nothing of a class. Nothing is downloaded; a seed gives the same
pictures on every machine, up to the last bit of its floating point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nas.core import DataSpec, Task
from nas.data.dataset import MultiTaskData, Split, input_spec
from nas.data.raycast import BOX, CONE, CYLINDER, PLANE, SPHERE, Array, Surfaces, cast, pinhole_rays
from nas.data.source import integer_option, no_file, read_options

LABELS = ("floor", "wall", "sphere", "box", "cylinder", "cone")
SOLIDS = (PLANE,) * 4 + (SPHERE,) * 2 + (BOX,) * 2 + (CYLINDER,) * 2 + (CONE,) * 2
CLASSES = np.array([0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], np.uint8)  # class of each slot of SOLIDS
FOCAL = 1.0  # of the picture's side: a field of view of 53 degrees
CHUNK = 32  # pictures rendered at a time, so that the arrays stay in the processor's cache


class Scenes:
    """Data source ``scenes``: tasks ``seg`` (six classes), ``depth`` and ``normals``."""

    options: ClassVar[Mapping[str, Any]] = {"images": 1000, "test_images": 200, "size": 64, "seed": 0}

    def tasks(self, spec: DataSpec) -> tuple[Task, ...]:
        """Return the three tasks."""
        self._read(spec)
        return (
            Task("seg", "segmentation", len(LABELS), labels=LABELS),
            Task("depth", "depth", 1),
            Task("normals", "normals", 3),
        )

    def shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """Return three colours and the size."""
        _, _, size, _ = self._read(spec)
        return 3, size, size

    def load(self, spec: DataSpec, wanted: Sequence[Task]) -> MultiTaskData:
        """Render the pictures."""
        images, test_images, size, seed = self._read(spec)
        names = [task.name for task in wanted]
        train = render(images, size, np.random.default_rng([seed, 0]), names)
        test = render(test_images, size, np.random.default_rng([seed, 1]), names)
        return MultiTaskData(spec.name, tuple(wanted), input_spec(train), train, train.subset([]), test)

    def _read(self, spec: DataSpec) -> tuple[int, int, int, int]:
        no_file(spec)
        options = read_options(spec, self.options)
        return (
            integer_option(spec, options, "images", 2, 100_000),
            integer_option(spec, options, "test_images", 1, 100_000),
            integer_option(spec, options, "size", 16, 512),
            integer_option(spec, options, "seed", 0, 2**31 - 1),
        )


def render(count: int, size: int, rng: np.random.Generator, names: Sequence[str] = ("seg", "depth", "normals")) -> Split:
    """Return `count` pictures of `size` × `size` pixels with the targets in `names`.

    Depth is float32, normals float16.
    """
    surfaces, scale = room(count, rng)
    slots = len(SOLIDS)
    albedo = rng.uniform(0.1, 0.95, (count, slots, 3)).astype(np.float32)
    wave = rng.normal(0, 1, (count, slots, 3)) * rng.uniform(2, 12, (count, slots, 1)) * scale
    wave = wave.astype(np.float32)  # radians per unit of local coordinates, so that scale makes them per metre
    strength = (rng.uniform(0, 0.5, (count, slots)) * (rng.random((count, slots)) < 0.6)).astype(np.float32)
    lamp = rng.uniform((-2, -2.5, -1), (2, -0.3, 2), (count, 3)).astype(np.float32)  # metres from the camera, above it
    ambient = rng.uniform(0.15, 0.45, (count, 1, 1)).astype(np.float32)
    tint = rng.uniform(0.8, 1.2, (count, 1, 3)).astype(np.float32)
    rays = pinhole_rays(size, FOCAL * size)

    pictures = np.empty((count, 3, size, size), np.uint8)
    targets: dict[str, NDArray[Any]] = {
        "seg": np.empty((count, size, size), np.uint8),
        "depth": np.empty((count, 1, size, size), np.float32),
        "normals": np.empty((count, 3, size, size), np.float16),
    }
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        hits = cast(Surfaces(SOLIDS, surfaces.linear[part], surfaces.offset[part], surfaces.present[part]), rays)
        image = np.arange(len(hits.slot))[:, None]
        to_lamp = lamp[part, None] - hits.depth[..., None] * rays
        distance = np.linalg.norm(to_lamp, axis=-1, keepdims=True)
        cosine = (to_lamp * hits.normal).sum(axis=-1, keepdims=True) / distance
        shade = ambient[part] + (1.3 - ambient[part]) * np.maximum(cosine, 0) / (1 + (distance / 6) ** 2)
        phase = (hits.local * wave[part][image, hits.slot]).sum(axis=-1)
        texture = 1 - strength[part][image, hits.slot] * (0.5 + 0.5 * np.tanh(4 * np.sin(phase)))
        colour = albedo[part][image, hits.slot] * texture[..., None] * shade * tint[part]
        colour = np.sqrt(colour) + 0.015 * rng.standard_normal(colour.shape, np.float32)  # gamma 2, and the sensor's noise
        shape = (len(image), size, size, -1)
        pictures[part] = (np.clip(colour, 0, 1) * 255).round().astype(np.uint8).reshape(shape).transpose(0, 3, 1, 2)
        targets["seg"][part] = CLASSES[hits.slot].reshape(shape[:3])
        targets["depth"][part, 0] = hits.depth.reshape(shape[:3])
        targets["normals"][part] = hits.normal.reshape(shape).transpose(0, 3, 1, 2)
    return Split(torch.from_numpy(pictures), {name: torch.from_numpy(targets[name]) for name in names})


def room(count: int, rng: np.random.Generator) -> tuple[Surfaces, NDArray[np.float64]]:
    """Return `count` rooms with their solids, and the size of each surface's local unit in metres, (count, slots, 3).

    The room's frame has its origin in the camera, y down, and the far wall at a constant z.
    """
    yaw = rng.uniform(-0.6, 0.6, count)
    camera = _rotation(2, rng.normal(0, 0.04, count)) @ _rotation(0, rng.uniform(0.1, 0.5, count)) @ _rotation(1, -yaw)
    height, far = rng.uniform(1.0, 1.8, count), rng.uniform(3.0, 8.0, count)  # of the camera above the floor; metres
    left, right = rng.uniform(1.5, 4.0, (2, count))
    zero = np.zeros(count)

    # A plane is local y = 0: the floor keeps its axes, a wall turns x or z into y.
    swap_x, swap_z = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]), np.array([[1, 0, 0], [0, 0, 1.0], [0, 1, 0]])
    turn = np.stack([np.eye(3), swap_z, swap_x, swap_x])
    centre = [np.stack(c, -1) for c in ((zero, height, zero), (zero, zero, far), (-left, zero, zero), (right, zero, zero))]

    solids = len(SOLIDS) - len(turn)
    scale = rng.uniform(0.15, 0.6, (count, solids, 3)) * rng.uniform(0.6, 1.2, (count, solids, 1))
    round_ones = np.array([solid != BOX for solid in SOLIDS[4:]])[:, None]
    scale[..., 2:] = np.where(round_ones, scale[..., :1], scale[..., 2:])  # circular sections
    sphere = np.array([solid == SPHERE for solid in SOLIDS[4:]])[:, None]
    scale = np.where(sphere, scale[..., :1], scale)
    bearing = yaw[:, None] + rng.uniform(-0.4, 0.4, (count, solids))  # the camera looks along the yaw
    sine, cosine = np.sin(bearing), np.cos(bearing)
    reach = np.minimum(
        far[:, None] / cosine, np.where(sine < 0, left[:, None], right[:, None]) / np.maximum(np.abs(sine), 1e-6)
    )
    distance = 1.4 + rng.random((count, solids)) * np.maximum(reach - 1.7, 0.0)
    tilted = rng.random((count, solids)) < 0.3
    spin = _rotation(1, rng.uniform(-np.pi, np.pi, (count, solids)))
    tilt = _rotation(0, tilted * rng.uniform(-1.2, 1.2, (count, solids))) @ _rotation(
        2, tilted * rng.uniform(-1.2, 1.2, (count, solids))
    )
    lift = np.where(tilted, np.linalg.norm(scale, axis=-1) + rng.uniform(0, 0.5, (count, solids)), scale[..., 1])
    place = np.stack([distance * sine, height[:, None] - lift, distance * cosine], axis=-1)

    frame = np.concatenate([np.broadcast_to(turn, (count, *turn.shape)), spin @ tilt], axis=1)
    unit = np.concatenate([np.ones((count, len(turn), 3)), scale], axis=1)
    centres = np.concatenate([np.stack(centre, axis=1), place], axis=1)
    inverse = np.swapaxes(frame, -1, -2) / unit[..., None]  # u = S⁻¹ Qᵀ (p - c)
    present = np.concatenate([np.ones((count, len(turn)), bool), rng.random((count, solids)) < 0.5], axis=1)
    linear: Array = (inverse @ np.swapaxes(camera, -1, -2)[:, None]).astype(np.float32)
    offset: Array = -(inverse @ centres[..., None])[..., 0].astype(np.float32)
    return Surfaces(SOLIDS, linear, offset, present), unit


def _rotation(axis: int, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return right-handed rotations about one axis by `angle`, in radians and of any shape: (..., 3, 3)."""
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[..., axis, axis] = 1
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., i, j], matrix[..., j, i] = -np.sin(angle), np.sin(angle)
    return matrix
