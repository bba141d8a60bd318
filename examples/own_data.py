"""A data set of one's own: discs of one colour on a background of another, to be segmented and to be told by their size.

A function returns a `MultiTaskData`; the job file names it as ``python:own_data:discs``.
"""

from __future__ import annotations

import torch

from nas.core import Task
from nas.data import MultiTaskData, Split, input_spec

TASKS = (
    Task("mask", "segmentation", 2, labels=("background", "disc")),
    Task("size", "classification", 3, labels=("small", "medium", "large")),
)


def discs(images: int = 600, test_images: int = 120, side: int = 32, seed: int = 0) -> MultiTaskData:
    """Return the data; the arguments are what ``data.options`` of the job file may set."""
    generator = torch.Generator().manual_seed(seed)
    train, test = _draw(images, side, generator), _draw(test_images, side, generator)
    # An empty validation split is filled from the training images, by data.val_fraction of the job.
    return MultiTaskData("discs", TASKS, input_spec(train), train, train.subset([]), test)


def _draw(count: int, side: int, generator: torch.Generator) -> Split:
    size = torch.randint(3, (count,), generator=generator)
    radius = (0.12 + 0.1 * size + 0.05 * torch.rand(count, generator=generator)) * side
    centre = (0.35 + 0.3 * torch.rand(count, 2, generator=generator)) * side
    grid = torch.arange(side) + 0.5
    distance = torch.hypot(grid[None, :, None] - centre[:, 0, None, None], grid[None, None, :] - centre[:, 1, None, None])
    mask = distance < radius[:, None, None]  # (count, side, side)
    colours = torch.rand(count, 2, 3, 1, 1, generator=generator)
    pixels = torch.where(mask[:, None], colours[:, 0], colours[:, 1])
    noisy = pixels + 0.05 * torch.randn(count, 3, side, side, generator=generator)
    inputs = (noisy.clamp(0, 1) * 255).round().to(torch.uint8)
    return Split(inputs, {"mask": mask.to(torch.uint8), "size": size})
