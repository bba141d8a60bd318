"""What a user brings: ``python:package.module:name``. Whether it is there is found without running any of it."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.core.errors import UserError, nearest
from nas.core.unforeseen import one_line

PREFIX = "python:"
OURS = ("nas", "search_spaces", "predictors", "hw_profiles", "dashboard")


def named_parts(name: str, what: str, kind: str, error: type[UserError]) -> tuple[str, str]:
    """Return module and name of ``python:package.module:name``.

    Args:
        name: The text, prefix included.
        what: It is named for, as errors call it: data, search space.
        kind: Of the object, as errors call it: function, class.
        error: Raised.

    Raises:
        UserError: The text is not of this form.
    """
    module, _, own = name.removeprefix(PREFIX).partition(":")
    if not name.startswith(PREFIX) or not own.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise error(f"a user's own {what} is written python:package.module:{kind}: got {name!r}")
    return module, own


def declared_options(name: str, what: str, kind: str, error: type[UserError]) -> tuple[str, ...] | None:
    """Return the keyword arguments of what ``python:package.module:name`` names, read from its source: nothing is run.

    Args:
        name: As for `named_parts`, like the others.
        what: See there.
        kind: ``function``, or ``class``, whose options are the keyword-only arguments of its ``__init__``.
        error: Raised.

    Returns:
        None where the source does not tell: it takes any, or is made rather than written down.

    Raises:
        UserError: There is no such module, its source is no Python, or it writes down no such name.
    """
    module, own = named_parts(name, what, kind, error)
    source = _source(module, name, what, error)
    if source is None:
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError) as cause:
        raise error(f"the module {module!r} of {what} {name!r} cannot be read: {one_line(cause)}; mend {source}") from None
    written = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = written.get(own)
    if found is None:
        if not {own, "*", "__getattr__"} & set(_bound(tree)):
            raise error(f"{module!r} has no {kind} {own!r}; {nearest(own, written)}")
        return None  # assigned, or brought by an import
    if found.decorator_list or (kind == "class") != isinstance(found, ast.ClassDef):
        return None
    if isinstance(found, ast.ClassDef):
        makers = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        return tuple(each.arg for each in makers[0].args.kwonlyargs) if makers and not makers[0].args.kwarg else None
    arguments = found.args
    return None if arguments.kwarg else tuple(each.arg for each in (*arguments.args, *arguments.kwonlyargs))


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield every name that is given to something anywhere in a module, ``*`` where an import brings whatever there is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _source(module: str, name: str, what: str, error: type[UserError]) -> Path | None:
    """Return the file of a module, found without importing it or the packages around it; None where it has no source."""
    place: list[str] | None = None
    found: importlib.machinery.ModuleSpec | None = None
    parts = module.split(".")
    with importable_folder():
        for depth in range(1, len(parts) + 1):
            whole = ".".join(parts[:depth])
            specs = (finder.find_spec(whole, place) for finder in sys.meta_path)
            found = next((spec for spec in specs if spec is not None), None)
            if found is None:
                raise error(
                    f"the module {module!r} of {what} {name!r} cannot be found; run from the folder that holds it (now "
                    f"{Path.cwd()}) or install it"
                )
            place = None if found.submodule_search_locations is None else list(found.submodule_search_locations)
            if place is None and depth < len(parts):
                raise error(f"the module {module!r} of {what} {name!r} cannot be found: {whole!r} is no package; mend the name")
    origin = found.origin if found is not None and found.has_location else None
    return Path(origin) if origin and origin.endswith(".py") else None


def import_named(name: str, what: str, kind: str, error: type[UserError]) -> Callable[..., Any]:
    """Import what ``python:package.module:name`` names; the current folder is searched first.

    Args:
        name: As for `named_parts`, like the others.
        what: See there.
        kind: See there.
        error: Raised.

    Raises:
        UserError: The text is not of this form, the module cannot be imported, or it has no such function or class.
    """
    module_name, own_name = named_parts(name, what, kind, error)
    printed = io.StringIO()
    try:
        with importable_folder(), contextlib.redirect_stderr(printed):
            module = importlib.import_module(module_name)
            _keep_ours()
    except SystemExit as cause:  # it reads a command line that is ours
        said = printed.getvalue().strip().splitlines()
        raise error(
            f"the module {module_name!r} of {what} {name!r} ends the program when it is imported (exit code {cause.code}"
            f"{': ' + said[-1] if said else ''}); put what it does as a script under if __name__ == '__main__'"
        ) from None
    except Exception as cause:  # whatever a user's module does while it is imported
        raise error(
            f"the module {module_name!r} of {what} {name!r} cannot be imported: {type(cause).__name__}: {cause}; "
            f"run from the folder that holds it (now {Path.cwd()}) or install it"
        ) from cause
    sys.stderr.write(printed.getvalue())
    found = getattr(module, own_name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise error(f"{module_name!r} has no {kind} {own_name!r}; {nearest(own_name, known)}")
    return found  # type: ignore[no-any-return]


def _keep_ours() -> None:
    """Raise where a module of the user's has taken the name of one of our packages, and forget it."""
    root = Path(__file__).parents[2]
    for name in OURS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and root not in Path(file).parents:
            del sys.modules[name]
            raise ImportError(f"it imports {file}, and {name} is a package of nas; rename yours")


@contextmanager
def importable_folder() -> Iterator[None]:
    """Let the current folder be searched for modules, as `python -m` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
