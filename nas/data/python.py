"""A user's own data: ``python:package.module:function``, where the function returns a `MultiTaskData`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nas.core import DataError, DataSpec, nearest
from nas.core.importing import PREFIX, declared_options, import_named, importable_folder
from nas.data.dataset import MultiTaskData

__all__ = ["PREFIX", "call_function", "declared_function", "find_function", "function_options"]


def find_function(name: str) -> Callable[..., Any]:
    """Import the function that ``python:package.module:function`` names; the current folder is searched first.

    Raises:
        DataError: The text is not of this form, the module cannot be imported, or it has no such function.
    """
    return import_named(name, "data", "function", DataError)


def declared_function(name: str) -> tuple[str, ...] | None:
    """Return the keyword arguments of the function that a name names, without importing it; None where it takes any.

    Raises:
        DataError: The text is not of this form, or there is no such module or function.
    """
    return declared_options(name, "data", "function", DataError)


def function_options(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of the function's keyword arguments; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def call_function(spec: DataSpec) -> MultiTaskData:
    """Call the user's function with the options of `spec`, and its `path` where the function has such an argument.

    Raises:
        DataError: An option it does not take, whatever it raised, or a result that is no `MultiTaskData`.
    """
    function = find_function(spec.name)
    allowed = function_options(function)
    options = dict(spec.options)
    if spec.path is not None:
        options.setdefault("path", spec.path)
    for option in options:
        if allowed is not None and option not in allowed:
            raise DataError(f"{option!r} is no argument of {spec.name!r}; {nearest(option, allowed)}")
    try:
        with importable_folder():
            data = function(**options)
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{spec.name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, MultiTaskData):
        raise DataError(f"{spec.name!r} has to return a nas.data.MultiTaskData: got {type(data).__name__}")
    return data
