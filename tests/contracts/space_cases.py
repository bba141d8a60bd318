"""The definitions that the contract of a search space is checked on: every space of the table, small, for several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hypothesis import Phase, settings
from torch import Tensor

from nas.core import ArchConfig, InputSpec, Task
from nas.supernet import SpaceDefinition
from search_spaces import SPACES, make_space

quick = settings(deadline=None, max_examples=12, derandomize=True, phases=[Phase.explicit, Phase.generate])

SEG, DEPTH, NORMALS = Task("seg", "segmentation", 5), Task("depth", "depth", 1), Task("normals", "normals", 3)
ROOM = Task("room", "classification", 4)

# Options that make small networks of every space. A new space adds a line.
OPTIONS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "slimmable": (
        {"channels": (16, 32, 24), "decoder_channels": 16},
        {"channels": (16, 24), "decoder_channels": 24, "stem_stride": 1, "widths": (0.5, 1.0), "depths": (1, 2, 3)},
        {"channels": (20,), "decoder_channels": 9, "stem_stride": 4, "resolutions": (0.5, 0.625, 1.0, 1.25)},
    ),
    "branched": (
        {"channels": (16, 32, 24), "decoder_channels": 16, "blocks": 1},
        {"channels": (16, 24), "decoder_channels": 24, "stem_stride": 1, "widths": (0.5, 1.0)},
        {"channels": (20,), "decoder_channels": 9, "stem_stride": 4, "blocks": 3},
    ),
}
INPUTS = ((3, 30, 42), (1, 32, 24), (3, 8, 8))  # channels, height, width
TASKS = ((SEG, DEPTH, NORMALS), (SEG, ROOM), (ROOM,))


def input_spec(channels: int, height: int, width: int) -> InputSpec:
    return InputSpec(channels, height, width, tuple(0.4 + 0.1 * c for c in range(channels)), (0.25,) * channels)


def make(name: str, case: int) -> SpaceDefinition:
    return make_space(name, OPTIONS[name][case], TASKS[case], input_spec(*INPUTS[case]))


CASES = [(name, case) for name in SPACES for case in range(len(OPTIONS[name]))]
DEFINITIONS = {f"{name}-{case}": make(name, case) for name, case in CASES}


def pixels(definition: SpaceDefinition, count: int = 2, seed: int = 0) -> Tensor:
    spec = definition.input
    return torch.rand(count, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(seed))


def some_archs(definition: SpaceDefinition, count: int, seed: int = 0) -> list[ArchConfig]:
    """Return the smallest, the largest and random architectures."""
    rng = np.random.default_rng(seed)
    space = definition.space
    return [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(count - 2))]
