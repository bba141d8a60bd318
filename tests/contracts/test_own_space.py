"""A user's own space, the one of the examples: named in a job file, it keeps what every space promises, or is told why not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_space_contract as contract
from space_cases import INPUTS, TASKS, input_spec

from nas.core import ArchConfig, ArchError, FloatArray
from nas.service.jobfile import read_job
from nas.supernet import Shapes, SpaceDefinition, View, prefix_views
from nas.supernet.contract import check_definition
from search_spaces import make_space, space_options

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "python:own_space:Kernels"
PROMISES = [
    promise
    for name, promise in vars(contract).items()
    if name.startswith("test_") and "definition" in inspect.signature(promise).parameters
]


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    """The folder that a user of the example runs from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(EXAMPLES)
        yield


@cache
def made(case: int = 0) -> SpaceDefinition:
    return with_options(case, {})


def with_options(case: int, options: Mapping[str, Any]) -> SpaceDefinition:
    return make_space(NAME, options, TASKS[case], input_spec(*INPUTS[case]))


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_what_every_space_promises(promise: Callable[..., None], case: int, tmp_path: Path) -> None:
    places = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(promise).parameters else {}
    promise(definition=made(case), **places)


def test_its_job_file_is_valid_and_its_options_are_those_of_its_class() -> None:
    assert space_options(NAME) == ("channels", "widths", "kernels", "decoder_channels")
    spec = read_job((EXAMPLES / "own_space.yaml").read_text(encoding="utf-8"))
    assert spec.space.name == NAME
    assert with_options(0, spec.space.options).space.count() == (2 * 2) ** 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("python:own_space", {}, "is written python:package.module:class: got 'python:own_space'"),
        ("python:own_spice:Kernels", {}, "cannot be imported: ModuleNotFoundError"),
        ("python:own_space:Kernel", {}, "has no class 'Kernel'; did you mean 'Kernels'"),
        (NAME, {"kernel": [3]}, "has no option 'kernel'; did you mean 'kernels'"),
        (NAME, {"channels": 3}, "the options of space 'python:own_space:Kernels' cannot be used"),
        (NAME, {"kernels": [4, 6]}, r"RuntimeError|predicts|macs are what torch counts"),
        ("python:json:dumps", {}, "cannot be used|lacks space"),
    ],
)
def test_what_cannot_be_a_space_is_said(name: str, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ArchError, match=message):
        make_space(name, options, TASKS[0], input_spec(*INPUTS[0]))


class Wrapped:
    """The example with one member changed, as a slip of its author might."""

    def __init__(self, definition: SpaceDefinition) -> None:
        self.space, self.tasks, self.input = definition.space, definition.tasks, definition.input
        self.teacher = definition.space.largest()
        self.build, self.super_module = definition.build, definition.super_module
        self._definition = definition

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        return self._definition.views(arch, shapes)

    def macs(self, archs: list[ArchConfig]) -> FloatArray:
        return np.asarray(self._definition.macs(archs))


def test_a_broken_promise_is_named() -> None:
    def check(definition: Any) -> None:
        check_definition("mine", definition, TASKS[0], input_spec(*INPUTS[0]))

    check(Wrapped(made()))
    wrong = Wrapped(made())
    wrong.macs = lambda archs: 2 * made().macs(archs)  # type: ignore[method-assign]
    with pytest.raises(ArchError, match="macs are what torch counts: 'mine' says"):
        check(wrong)
    wrong = Wrapped(made())
    wrong.views = lambda arch, shapes: {k: v for k, v in prefix_views(shapes).items() if "bias" not in k}  # type: ignore[method-assign]
    with pytest.raises(ArchError, match=r"a slice of a shared one: '\S+bias' of 'mine'"):
        check(wrong)
    wrong = Wrapped(made())
    wrong.super_module = lambda: made().build(made().space.smallest())
    with pytest.raises(ArchError, match=r"slice of a shared one: 'layers\.0\.0\.weight'"):
        check(wrong)
    wrong = Wrapped(made())
    wrong.tasks = TASKS[1]
    with pytest.raises(ArchError, match="keeps the tasks and the input"):
        check(wrong)
    del wrong.space
    with pytest.raises(ArchError, match="'mine' lacks space"):
        check(wrong)
