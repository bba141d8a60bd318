"""One file per method: networks and their choices, nothing about search."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nas.core import ArchError, InputSpec, Task, nearest
from nas.core.importing import PREFIX, declared_options, import_named

if TYPE_CHECKING:
    from nas.supernet import SpaceDefinition

SPACES = {"slimmable": "search_spaces.slimmable:Slimmable", "branched": "search_spaces.branched:Branched"}

__all__ = ["SPACES", "make_space", "space_options"]


def make_space(name: str, options: Mapping[str, Any], tasks: Sequence[Task], input: InputSpec) -> SpaceDefinition:
    """Return the `SpaceDefinition` called `name`.

    Args:
        name: One of `SPACES`, or ``python:package.module:Class`` for a user's own, which is held to what every space promises.
        options: Keyword arguments of the definition.
        tasks: Tasks of the job.
        input: Input of the job.

    Raises:
        ArchError: The name or an option is not known, an option's value is not allowed, or a user's own space does not
            keep what every space promises.
    """
    made = _definition(name)
    allowed = _keyword_only(made)
    for option in options:
        if option not in allowed:
            raise ArchError(f"space {name!r} has no option {option!r}; {nearest(option, allowed)}")
    try:
        definition = cast("SpaceDefinition", made(tasks, input, **options))
    except TypeError as error:
        raise ArchError(f"the options of space {name!r} cannot be used: {error}") from error
    if name.startswith(PREFIX):
        from nas.supernet.contract import check_definition

        check_definition(name, definition, tasks, input)
    return definition


def space_options(name: str) -> tuple[str, ...] | None:
    """Return the names of a space's options. A user's own space is not imported; None where its source does not tell.

    Raises:
        ArchError: There is no such space.
    """
    if name.startswith(PREFIX):
        return declared_options(name, "search space", "class", ArchError)
    return _keyword_only(_definition(name))


def _keyword_only(made: Any) -> tuple[str, ...]:
    return tuple(p.name for p in inspect.signature(made).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY)


def _definition(name: str) -> Any:
    if name.startswith(PREFIX):
        return import_named(name, "search space", "class", ArchError)
    if name not in SPACES:
        raise ArchError(f"there is no search space {name!r}; {nearest(name, SPACES)}")
    module, _, attribute = SPACES[name].partition(":")  # imported here: listing the spaces needs no torch
    return getattr(importlib.import_module(module), attribute)
