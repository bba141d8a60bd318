"""The generated scenes: exact against closed forms, a second ray caster, and finite differences."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nas.data.raycast import BOX, CONE, CYLINDER, PLANE, SPHERE, Surfaces, cast, pinhole_rays
from nas.data.scenes import CLASSES, LABELS, SOLIDS, render, room

# Inside each unit solid, written independently of the ray caster's quadratics.
INSIDE: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    PLANE: lambda u: u[..., 1] >= 0,
    SPHERE: lambda u: np.linalg.norm(u, axis=-1) <= 1,
    BOX: lambda u: np.abs(u).max(axis=-1) <= 1,
    CYLINDER: lambda u: (np.hypot(u[..., 0], u[..., 2]) <= 1) & (np.abs(u[..., 1]) <= 1),
    CONE: lambda u: (np.hypot(u[..., 0], u[..., 2]) <= (1 + u[..., 1]) / 2) & (np.abs(u[..., 1]) <= 1),
}


def with_wall(solid: int, linear: np.ndarray, offset: np.ndarray, wall_z: float = 9.0) -> Surfaces:
    """One image: a wall at constant z, and one solid in front of it."""
    wall = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    return Surfaces(
        (PLANE, solid),
        np.stack([wall, linear])[None].astype(np.float32),
        np.stack([[0, -wall_z, 0], offset])[None].astype(np.float32),
        np.ones((1, 2), bool),
    )


def test_sphere_equals_its_closed_form() -> None:
    rays, centre, radius = pinhole_rays(64, 64.0), np.array([0.3, -0.2, 3.0]), 0.8
    hits = cast(with_wall(SPHERE, np.eye(3) / radius, -centre / radius), rays)
    d = rays.astype(float)
    dd, dc = (d * d).sum(axis=1), d @ centre
    discriminant = dc**2 - dd * (centre @ centre - radius**2)
    on = discriminant > 1e-2
    t = (dc[on] - np.sqrt(discriminant[on])) / dd[on]
    assert on.sum() > 500
    np.testing.assert_array_equal(hits.slot[0, on], 1)
    np.testing.assert_allclose(hits.depth[0, on], t, atol=1e-4)
    np.testing.assert_allclose(hits.normal[0, on], (t[:, None] * d[on] - centre) / radius, atol=1e-3)
    np.testing.assert_array_equal(hits.slot[0, discriminant < 0], 0)
    np.testing.assert_allclose(hits.depth[0, discriminant < 0], 9.0, atol=1e-5)


def test_plane_equals_its_closed_form() -> None:
    rays = pinhole_rays(32, 32.0)
    normal = np.array([0.2, 0.3, 0.8]) / np.linalg.norm([0.2, 0.3, 0.8])
    side = np.cross(normal, [0, 1, 0]) / np.linalg.norm(np.cross(normal, [0, 1, 0]))
    linear = np.stack([side, normal, np.cross(side, normal)])
    hits = cast(with_wall(PLANE, linear, np.array([0.0, -2.0, 0.0]), wall_z=100.0), rays)
    np.testing.assert_allclose(hits.depth[0], 2.0 / (rays.astype(float) @ normal), rtol=1e-5)
    np.testing.assert_allclose(hits.normal[0], np.broadcast_to(-normal, (32 * 32, 3)), atol=1e-5)


@pytest.mark.parametrize("solid", [SPHERE, BOX, CYLINDER, CONE])
def test_solids_equal_a_march_along_the_ray(solid: int) -> None:
    rng = np.random.default_rng(solid)
    rays, steps = pinhole_rays(16, 16.0), np.arange(1.0, 5.5, 0.002)
    found = 0
    for _ in range(6):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        scale, centre = rng.uniform(0.3, 0.9, 3), np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(2, 4)])
        linear = turn / scale[:, None]
        offset = -linear @ centre
        hits = cast(with_wall(solid, linear, offset), rays)
        local = offset + steps[:, None, None] * (rays.astype(float) @ linear.T)  # (steps, rays, 3)
        inside = INSIDE[solid](local)
        entry = np.where(inside.any(axis=0), steps[inside.argmax(axis=0)], 9.0)
        differs = np.abs(hits.depth[0] - entry) > 0.003
        assert differs.mean() < 0.01  # a ray that grazes an edge is shorter inside than a step
        found += int((hits.slot[0] == 1).sum())
        # The point lies on the solid's surface, and a step against the normal leads inside it.
        on = hits.slot[0] == 1
        u, into = hits.local[0, on].astype(float), linear @ hits.normal[0, on].T
        assert INSIDE[solid](u - 0.005 * into.T).mean() > 0.97
        assert not INSIDE[solid](u + 0.005 * into.T).any()
    assert found > 100


def test_normals_equal_finite_differences_of_depth() -> None:
    count, size = 12, 192
    surfaces, _ = room(count, np.random.default_rng(3))
    rays = pinhole_rays(size, float(size))
    hits = cast(surfaces, rays)
    points = (hits.depth[..., None].astype(float) * rays).reshape(count, size, size, 3)
    down, right = np.gradient(points, axis=(1, 2))
    derived = np.cross(right, down)
    derived /= np.linalg.norm(derived, axis=-1, keepdims=True)
    derived *= -np.sign((derived * points).sum(axis=-1, keepdims=True))
    cosine = (derived * hits.normal.reshape(points.shape)).sum(axis=-1).clip(-1, 1)
    angle = np.rad2deg(np.arccos(cosine))[:, 1:-1, 1:-1]
    slot = hits.slot.reshape(count, size, size)
    one = np.stack([slot[:, 1 + i : size - 1 + i, 1 + j : size - 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    interior = (one == one[4]).all(axis=0)
    flat = interior & (one[4] < 4)
    solid = interior & (one[4] >= 4)
    assert flat.mean() > 0.5
    assert solid.mean() > 0.05
    assert angle[flat].max() < 0.1  # exact on planes, up to float32
    assert np.percentile(angle[solid], 90) < 2.0  # an edge of a box is an error of the differences, not of the normal
    np.testing.assert_allclose(np.linalg.norm(hits.normal, axis=-1), 1, atol=1e-5)
    assert (np.einsum("mnc,nc->mn", hits.normal, rays) < 0).all()


def test_a_scene_is_the_same_again_for_its_seed_only() -> None:
    first, again, other = (render(4, 32, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert all(torch.equal(first.targets[name], again.targets[name]) for name in first.targets)
    assert not torch.equal(first.inputs, other.inputs)


def test_scenes_hold_every_class_and_colour_does_not_give_it_away() -> None:
    split = render(150, 32, np.random.default_rng(0))
    classes = split.targets["seg"].flatten().numpy()
    share = np.bincount(classes, minlength=len(LABELS)) / classes.size
    assert (share > 0.01).all()
    assert len(CLASSES) == len(SOLIDS)
    colours = split.inputs.permute(0, 2, 3, 1).reshape(-1, 3).numpy() / 255
    centres = np.stack([colours[classes == c].mean(axis=0) for c in range(len(LABELS))])
    nearest_centre = ((colours[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    balanced = np.mean([(nearest_centre == c)[classes == c].mean() for c in range(len(LABELS))])
    assert balanced < 0.3  # chance is 1 / 6
    depth = split.targets["depth"]
    assert depth.min() > 0.05
    assert depth.max() < 12
    assert depth.std() > 1


def test_rendering_is_quick() -> None:
    def seconds() -> float:
        start = time.thread_time()
        render(120, 64, np.random.default_rng(0))  # a tenth of the default data
        return time.thread_time() - start

    assert any(seconds() < 0.9 for _ in range(6))  # 0.35 on an idle core; the least of several, since cores are shared
