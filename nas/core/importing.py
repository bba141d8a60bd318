"""What a user brings: ``python:package.module:name``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.core.errors import UserError, nearest

PREFIX = "python:"


def import_named(name: str, what: str, kind: str, error: type[UserError]) -> Callable[..., Any]:
    """Import what ``python:package.module:name`` names; the current folder is searched first.

    Args:
        name: The text, prefix included.
        what: It is named for, as errors call it: data, search space.
        kind: Of the object, as errors call it: function, class.
        error: Raised.

    Raises:
        UserError: The text is not of this form, the module cannot be imported, or it has no such function or class.
    """
    module_name, _, own_name = name.removeprefix(PREFIX).partition(":")
    if not name.startswith(PREFIX) or not module_name or not own_name.isidentifier():
        raise error(f"a user's own {what} is written python:package.module:{kind}: got {name!r}")
    try:
        with importable_folder():
            module = importlib.import_module(module_name)
    except Exception as cause:  # whatever a user's module does while it is imported
        raise error(
            f"the module {module_name!r} of {what} {name!r} cannot be imported: {type(cause).__name__}: {cause}; "
            f"run from the folder that holds it (now {Path.cwd()}) or install it"
        ) from cause
    found = getattr(module, own_name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise error(f"{module_name!r} has no {kind} {own_name!r}; {nearest(own_name, known)}")
    return found  # type: ignore[no-any-return]


@contextmanager
def importable_folder() -> Iterator[None]:
    """Let the current folder be searched for modules, as `python -m` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
