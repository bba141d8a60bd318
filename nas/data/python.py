"""A user's own data: ``python:package.module:function``, where the function returns a `MultiTaskData`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.core import DataError, DataSpec, nearest
from nas.data.dataset import MultiTaskData

PREFIX = "python:"


def find_function(name: str) -> Callable[..., Any]:
    """Import the function that ``python:package.module:function`` names; the current folder is searched first.

    Raises:
        DataError: The text is not of this form, the module cannot be imported, or it has no such function.
    """
    module_name, _, function_name = name.removeprefix(PREFIX).partition(":")
    if not name.startswith(PREFIX) or not module_name or not function_name.isidentifier():
        raise DataError(f"a user's own data is written python:package.module:function: got {name!r}")
    try:
        with _importable_folder():
            module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does while it is imported
        raise DataError(
            f"the module {module_name!r} of data {name!r} cannot be imported: {type(error).__name__}: {error}; "
            f"run from the folder that holds it (now {Path.cwd()}) or install it"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(f"{module_name!r} has no function {function_name!r}; {nearest(function_name, functions)}")
    return function  # type: ignore[no-any-return]


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
        with _importable_folder():
            data = function(**options)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{spec.name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, MultiTaskData):
        raise DataError(f"{spec.name!r} has to return a nas.data.MultiTaskData: got {type(data).__name__}")
    return data


@contextmanager
def _importable_folder() -> Iterator[None]:
    """Let the current folder be searched for modules, as `python -m` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
