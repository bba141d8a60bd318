"""Exact first hits of a camera's rays on unit solids, each under its own affine map; vectorised over images and pixels.

A surface is one of five unit solids in local coordinates u, seen through u = A p + b, where p is in the camera's frame
(x right, y down, z forward). A ray is p = t d with d_z = 1, so that t is the depth along the optical axis; in local
coordinates it is u = b + t A d with the same t, so that distances need no conversion. A normal is the gradient of the
solid's equation, taken back by A's transpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
PLANE, SPHERE, BOX, CYLINDER, CONE = range(5)
NEAR = 0.05  # metres; what is closer is behind the camera or at its lens


@dataclass(frozen=True)
class Surfaces:
    """Surfaces of m images, k slots each; a slot holds the same solid in every image.

    Attributes:
        solids: One of the five solids per slot, (k,).
        linear: A, float32, (m, k, 3, 3).
        offset: b, float32, (m, k, 3).
        present: Whether the slot is used, bool, (m, k). The first slots of each image enclose the camera.
    """

    solids: tuple[int, ...]
    linear: Array
    offset: Array
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Hits:
    """What each pixel sees; m images of n pixels.

    Attributes:
        slot: Index of the surface, int, (m, n).
        depth: Metres along the optical axis, float32, (m, n).
        normal: Unit vectors in the camera's frame, towards the camera, float32, (m, n, 3).
        local: Local coordinates of the point, float32, (m, n, 3).
    """

    slot: NDArray[np.int64]
    depth: Array
    normal: Array
    local: Array


def pinhole_rays(size: int, focal: float) -> Array:
    """Return directions with z = 1 through the pixels' centres, float32, (size * size, 3), row by row.

    Args:
        size: Pixels a side.
        focal: Focal length in pixels.
    """
    axis = (np.arange(size) + 0.5 - size / 2) / focal
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)


def cast(surfaces: Surfaces, rays: Array) -> Hits:
    """Return the nearest hit of every ray, of shape (n, 3), in each image.

    Raises:
        ValueError: A ray hits nothing.
    """
    images, pixels = len(surfaces.present), len(rays)
    depth = np.full((images, pixels), np.inf, np.float32)
    slot = np.full((images, pixels), -1)
    for k, solid in enumerate(surfaces.solids):
        rows = np.flatnonzero(surfaces.present[:, k])
        direction = np.matmul(surfaces.linear[rows, k], rays.T)  # (rows, 3, n)
        t = _distance(solid, surfaces.offset[rows, k][:, :, None], direction)
        closer = t < depth[rows]
        depth[rows] = np.where(closer, t, depth[rows])
        slot[rows] = np.where(closer, k, slot[rows])
    if (slot < 0).any():
        raise ValueError("the first surfaces of a scene enclose the camera: some ray hits nothing")
    image = np.arange(images)[:, None]
    linear = surfaces.linear[image, slot]  # (m, n, 3, 3)
    local = surfaces.offset[image, slot] + depth[..., None] * np.matmul(linear, rays[:, :, None])[..., 0]
    gradient = _gradient(np.asarray(surfaces.solids)[slot], local)
    normal = np.matmul(gradient[..., None, :], linear)[..., 0, :]  # Aᵀ g
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= -np.sign(np.einsum("mnc,nc->mn", normal, rays))[..., None]
    return Hits(slot, depth, normal.astype(np.float32), local.astype(np.float32))


def _distance(solid: int, o: Array, d: Array) -> Array:
    """Return t > NEAR of the first hit of u = o + t d on a unit solid, infinity where there is none.

    Args:
        solid: Which one.
        o: Origins, (m, 3, 1).
        d: Directions, (m, 3, n).
    """
    (ox, oy, oz), (dx, dy, dz) = np.moveaxis(o, 1, 0), np.moveaxis(d, 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if solid == PLANE:  # y = 0
            return _first(-oy / dy)
        if solid == SPHERE:  # |u| = 1
            roots = _roots(dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1)
            return _first(*roots)
        if solid == BOX:  # |x|, |y|, |z| <= 1: the last entry into a slab, before the first exit from one
            one, two = (-1 - o) / d, (1 - o) / d
            enter, leave = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            return _first(np.where(enter < leave, enter, np.inf))
        if solid == CYLINDER:  # x² + z² = 1, |y| <= 1
            sides = _roots(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1)
            caps = [(-1 - oy) / dy, (1 - oy) / dy]
        else:  # a cone with its apex at y = -1, which is up: x² + z² = ((1 + y) / 2)², y <= 1
            oh, dh = (1 + oy) / 2, dy / 2
            sides = _roots(dx * dx + dz * dz - dh * dh, ox * dx + oz * dz - oh * dh, ox * ox + oz * oz - oh * oh)
            caps = [(1 - oy) / dy]
        on_side = [np.where(np.abs(oy + t * dy) <= 1, t, np.inf) for t in sides]
        on_cap = [np.where((ox + t * dx) ** 2 + (oz + t * dz) ** 2 <= 1, t, np.inf) for t in caps]
        return _first(*on_side, *on_cap)


def _roots(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return both solutions of a t² + 2 b t + c = 0; NaN where there are none."""
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _first(*candidates: Array) -> Array:
    """Return the smallest candidate in front of the camera, infinity where there is none."""
    result = np.full_like(candidates[0], np.inf)
    for t in candidates:
        result = np.where((t > NEAR) & (t < result), t, result)
    return result


def _gradient(solid: NDArray[np.int64], u: Array) -> Array:
    """Return a normal in local coordinates, of any length and sign, at points u, (m, n, 3), of the solids, (m, n)."""
    x, y, z = np.moveaxis(u, -1, 0)
    flat = np.zeros_like(x)
    up = np.stack([flat, np.ones_like(x), flat], axis=-1)
    radius2 = x * x + z * z
    kind = solid[..., None]
    largest = np.abs(u) >= np.abs(u).max(axis=-1, keepdims=True)
    side = np.stack([x, flat, z], axis=-1)
    slope = np.stack([x, -(1 + y) / 4, z], axis=-1)
    # On a cap |y| = 1 up to rounding, and inside the rim; which of cap and side is nearer in float32 decides.
    on_cylinder = np.where((1 - np.abs(y) < np.abs(1 - radius2) / 2)[..., None], up, side)
    on_cone = np.where((1 - y < np.abs(1 - radius2) / 2)[..., None], up, slope)
    result = np.where(kind == PLANE, up, u)
    result = np.where(kind == BOX, np.where(largest, np.sign(u), 0), result)
    result = np.where(kind == CYLINDER, on_cylinder, result)
    return np.where(kind == CONE, on_cone, result).astype(np.float32)
