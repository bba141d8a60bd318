"""The page of a space says what is true: its numbers, its choices, its options and its code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from space_cases import DEPTH, NORMALS, input_spec

from hw_profiles.counting import count_cost
from nas.core import ArchConfig, Task
from nas.supernet import Branching
from search_spaces import SPACES, make_space, space_options
from search_spaces.branched import Branched
from search_spaces.slimmable import Slimmable

DOCS = Path(__file__).parents[2] / "docs" / "spaces"
PAGE = (DOCS / "slimmable.md").read_text(encoding="utf-8")
TASKS = (Task("seg", "segmentation", 13), DEPTH, NORMALS)
DEFINITION = make_space("slimmable", {}, TASKS, input_spec(3, 96, 128))


def number(text: str) -> int:
    return int(text.replace(",", ""))


BRANCHED_PAGE = (DOCS / "branched.md").read_text(encoding="utf-8")


def test_every_space_has_a_page() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(SPACES)


def test_the_numbers_of_trees() -> None:
    rows = re.findall(r"^\| (\d) \| ([\d,]+) \| ([\d,]+) \|$", BRANCHED_PAGE, re.MULTILINE)
    assert len(rows) == 4
    for tasks, trees, archs in rows:
        chosen = (*TASKS, Task("room", "classification", 4))[: int(tasks)]
        assert make_space("branched", {"widths": [1.0]}, chosen, DEFINITION.input).space.count() == number(trees)
        assert make_space("branched", {}, chosen, DEFINITION.input).space.count() == number(archs)


def test_the_costs_of_trees() -> None:
    definition = make_space("branched", {}, TASKS, DEFINITION.input)
    assert isinstance(definition, Branching)
    names = tuple(task.name for task in TASKS)
    together, apart = (names,), tuple((name,) for name in names)
    archs = {
        "smallest": definition.space.smallest(),
        "all shared, full widths": definition.arch_of([together] * 4),
        "parted after layer 1, full widths": definition.arch_of([together] * 2 + [apart] * 2),
        "largest": definition.space.largest(),
    }
    for label, arch in archs.items():
        found = re.search(rf"^\| {label} \| ([\d,]+) \| ([\d,]+) \|$", BRANCHED_PAGE, re.MULTILINE)
        assert found is not None
        with torch.device("meta"):
            cost = count_cost(definition.build(arch).eval(), definition.input)
        assert (number(found[1]), number(found[2])) == (cost["macs"], cost["params"])


def test_the_numbers_of_architectures() -> None:
    rows = re.findall(r"^\| (\d) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for tasks, count in rows:
        definition = make_space("slimmable", {}, TASKS[: int(tasks)], DEFINITION.input)
        assert definition.space.count() == number(count)


def test_the_costs() -> None:
    space = DEFINITION.space
    largest = space.largest()
    half = space.arch({**largest, **{name: 0.5 for name in largest if name.endswith("width")}})
    archs: dict[str, ArchConfig] = {
        "smallest": space.smallest(),
        "every width 0.5, all else largest": half,
        "largest": largest,
    }
    for label, arch in archs.items():
        found = re.search(rf"^\| {label} \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
        assert found is not None
        with torch.device("meta"):
            cost = count_cost(DEFINITION.build(arch).eval(), DEFINITION.input)
        assert (number(found[1]), number(found[2])) == (cost["macs"], cost["params"])
    slim = space.arch({**largest, "decoder.depth.width": 0.25})
    without = make_space("slimmable", {}, (TASKS[0], NORMALS), DEFINITION.input)
    whole, less, rest = *DEFINITION.macs([largest, slim]) / 1e6, float(without.macs([without.space.largest()])[0]) / 1e6
    assert f"takes {whole - rest:.0f} of the largest network's {whole:.0f} million" in PAGE
    assert f"it takes {whole - less:.0f} million less" in PAGE


@pytest.mark.parametrize(("space", "page"), [(Slimmable, PAGE), (Branched, BRANCHED_PAGE)], ids=["slimmable", "branched"])
def test_the_defaults_of_the_options(space: type, page: str) -> None:
    parameters = inspect.signature(space).parameters
    for option in space_options(space.__name__.lower()):
        found = re.search(rf"^\| `{option}` \| `([^`]+)` \|", page, re.MULTILINE)
        assert found is not None, option
        default = parameters[option].default
        assert yaml.safe_load(found[1]) == (list(default) if isinstance(default, tuple) else default)


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_job_of_the_page_of_trees_is_a_space() -> None:
    (block,) = blocks("yaml", BRANCHED_PAGE)
    spec: dict[str, Any] = yaml.safe_load(block)["space"]
    space = make_space(spec["name"], spec["options"], TASKS, DEFINITION.input).space
    trees = make_space("branched", spec["options"] | {"widths": [1.0]}, TASKS, DEFINITION.input).space
    assert trees.count() == 22 < space.count()


def test_the_job_of_the_page_is_a_space() -> None:
    (block,) = blocks("yaml")
    spec: dict[str, Any] = yaml.safe_load(block)["space"]
    assert (
        make_space(spec["name"], spec["options"], TASKS, DEFINITION.input).space.count() == (2 * 2) * (3 * 2) ** 2 * 3**3
    )  # of 16 channels, a quarter and a half are 8


def test_the_code_of_the_page_runs() -> None:
    (block,) = blocks("python")
    names: dict[str, Any] = {}
    exec(block, names)
    out = names["supernet"](names["data"].test.inputs[:8].float() / 255, names["arch"])["digit"]
    assert out.shape == (8, 10)


@pytest.mark.parametrize("choice", ["resolution", "encoder.S.width", "encoder.S.depth", "decoder.TASK.width"])
def test_the_choices(choice: str) -> None:
    found = re.search(rf"^\| `{re.escape(choice)}` \| ([\d., ]+) \|", PAGE, re.MULTILINE)
    assert found is not None
    name = choice.replace("S.", "0.").replace("TASK", "seg")
    assert [float(option) for option in found[1].split(",")] == [float(o) for o in DEFINITION.space[name].options]
