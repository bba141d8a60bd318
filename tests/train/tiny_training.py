"""Small data, a small space and a short recipe."""

from __future__ import annotations

import torch

from nas.core import InputSpec, Task, TrainingSpec
from nas.data import MultiTaskData, Split
from nas.supernet import SpaceDefinition
from search_spaces import make_space

TASKS = (Task("seg", "segmentation", 4, weight=2.0), Task("depth", "depth", 1, weight=0.5), Task("room", "classification", 3))
SIDE = 16
SPEC = TrainingSpec(epochs=3, batch_size=8, subnets=4, device="cpu", precision="fp32")


def split(count: int, seed: int, side: int = SIDE) -> Split:
    """Return images whose targets follow from their colours: brightness is depth and class, redness the room."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    inputs = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    grey = inputs.mean(1, keepdim=True)
    return Split(
        (inputs * 255).round().to(torch.uint8),
        {
            "seg": (grey[:, 0] * 4).long().clamp(max=3),
            "depth": 1 + 2 * grey,
            "room": (inputs[:, 0].mean((1, 2)) * 9 - 3).long().clamp(0, 2),
        },
    )


def tiny_data(train: int = 24, val: int = 12, side: int = SIDE) -> MultiTaskData:
    spec = InputSpec(3, side, side, (0.5,) * 3, (0.25,) * 3)
    return MultiTaskData("tiny", TASKS, spec, split(train, 0, side), split(val, 1, side), split(6, 2, side))


def tiny_definition(data: MultiTaskData, stem_stride: int = 1) -> SpaceDefinition:
    options = {"channels": (8, 16), "decoder_channels": 16, "widths": (0.5, 1.0), "stem_stride": stem_stride}
    return make_space("slimmable", options, data.tasks, data.input)
