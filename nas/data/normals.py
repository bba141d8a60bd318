"""Surface normals from depth maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CHUNK = 64  # images at a time, which bounds the memory


def normals_from_depth(depth: NDArray[np.floating], camera: tuple[float, float, float, float]) -> NDArray[np.float16]:
    """Return unit normals in the camera's frame (x right, y down, z forward), turned to the camera: z is negative.

    Depth is smoothed by a median filter of 5 pixels and a Gaussian of sigma 2; the normal is the cross product of the
    gradients of the back-projected points.

    Args:
        depth: Metres, (n, h, w).
        camera: Focal lengths and principal point in pixels: fx, fy, cx, cy.

    Returns:
        Shape (n, 3, h, w), float16.
    """
    count, height, width = depth.shape
    fx, fy, cx, cy = camera
    x = ((np.arange(width) - cx) / fx).astype(np.float32)
    y = ((np.arange(height) - cy) / fy).astype(np.float32)[:, None]
    result = np.empty((count, 3, height, width), np.float16)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        smooth = ndimage.median_filter(depth[part].astype(np.float32), size=(1, 5, 5))
        smooth = ndimage.gaussian_filter(smooth, sigma=(0, 2, 2))
        points = np.stack([x * smooth, y * smooth, smooth], axis=1)
        down, right = np.gradient(points, axis=(2, 3))
        normal = np.cross(right, down, axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        facing = (normal * points).sum(axis=1, keepdims=True) > 0
        result[part] = np.where(facing, -normal, normal)
    return result
