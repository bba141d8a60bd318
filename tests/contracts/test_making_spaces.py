"""Making a space: what it counts, and what its errors say."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from space_cases import DEPTH, ROOM, SEG, input_spec, quick

from nas.core import ArchError, Task
from search_spaces import SPACES, make_space, space_options
from search_spaces.layers import make_divisible

INPUT = input_spec(3, 32, 32)


@pytest.mark.parametrize("tasks", [(SEG,), (SEG, DEPTH), (SEG, DEPTH, ROOM)])
def test_the_default_space_is_as_large_as_documented(tasks: tuple[Task, ...]) -> None:
    # Two resolutions; four stages of four widths and two depths; four widths per decoder.
    assert make_space("slimmable", {}, tasks, INPUT).space.count() == 2 * (4 * 2) ** 4 * 4 ** len(tasks)


def test_the_options_of_a_space_are_listed() -> None:
    assert space_options("slimmable") == ("widths", "depths", "resolutions", "channels", "decoder_channels", "stem_stride")
    for name in SPACES:
        assert make_space(name, {}, (SEG,), INPUT).space.count() > 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("slimable", {}, "there is no search space 'slimable'; did you mean 'slimmable'?"),
        ("slimmable", {"width": [1.0]}, "no option 'width'; did you mean 'widths'?"),
        ("slimmable", {"widths": []}, "widths are positive and ascend: got []"),
        ("slimmable", {"widths": [1.0, 0.5]}, "widths are positive and ascend: got [1.0, 0.5]"),
        ("slimmable", {"widths": [0.5, 0.5]}, "widths are positive and ascend"),
        ("slimmable", {"widths": [0.0, 0.5]}, "widths are positive and ascend"),
        ("slimmable", {"widths": [0.5, math.nan]}, "widths are positive and ascend"),
        ("slimmable", {"widths": [0.5, math.inf]}, "widths are positive and ascend"),
        ("slimmable", {"widths": [1.0, 1e6]}, "are from 8 to 8192"),
        ("slimmable", {"widths": 0.5}, "the options of space 'slimmable' cannot be used"),
        ("slimmable", {"widths": ["small"]}, "the options of space 'slimmable' cannot be used"),
        ("slimmable", {"depths": [2, 1]}, "depths are positive and ascend"),
        ("slimmable", {"depths": [0.5, 1]}, "depths are whole numbers: got [0.5, 1]"),
        ("slimmable", {"depths": [1, 1.5]}, "depths are whole numbers: got [1, 1.5]"),
        ("slimmable", {"resolutions": [-1.0]}, "resolutions are positive and ascend"),
        ("slimmable", {"channels": []}, "are from 8 to 8192"),
        ("slimmable", {"channels": [4, 16]}, "are from 8 to 8192"),
        ("slimmable", {"channels": 32}, "the options of space 'slimmable' cannot be used"),
        ("slimmable", {"decoder_channels": 100_000}, "are from 8 to 8192"),
        ("slimmable", {"stem_stride": 3}, "1, 2 or 4: got [32, 64, 128, 256], 64, times 1.0, and 3"),
    ],
)
def test_an_error_says_what_is_allowed(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchError) as caught:
        make_space(name, options, (SEG,), INPUT)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["type", "items", "room.kind", ""])
def test_a_task_name_that_torch_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ArchError) as caught:
        make_space("slimmable", {}, (SEG, Task(name, "classification", 3)), INPUT)
    assert repr(name) in str(caught.value)


@quick
@given(channels=st.floats(1, 4096), more=st.floats(0, 100))
def test_channels_are_rounded_to_a_multiple_without_losing_a_tenth(channels: float, more: float) -> None:
    rounded = make_divisible(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert rounded <= max(channels + 8, 8)
    assert make_divisible(channels + more) >= rounded  # or a slim layer were no slice of a wide one
