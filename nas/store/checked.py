"""Values of the kinds that were promised: what JSON and columns hold is checked, as others may have written to the store."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from nas.core.json_text import number

Value = TypeVar("Value")
INFINITY = "infinity"  # the only name in the object that stands for one
_PLAIN = frozenset({str, int, bool, float, datetime})


def load(kind: type[Value], text: str) -> Value:
    """Return the value of type `kind` whose JSON text is `text`.

    Raises:
        ValueError: It is not JSON, or not of a value of this type; what a `__post_init__` raises is raised too.
    """
    return cast(Value, of_kind(kind, parsed(text), kind.__name__))


def parsed(text: Any) -> Any:
    """Return what JSON text holds: that of `nas.store.encoding.dump`, or of an earlier version, with NaN and Infinity in it.

    Raises:
        ValueError: It is no text, or no JSON.
    """
    if not isinstance(text, str):
        raise ValueError(f"JSON is text: {text!r:.60} is none")
    try:
        return json.loads(text, object_hook=lambda found: math.inf * found[INFINITY] if INFINITY in found else found)
    except RecursionError:
        raise ValueError("JSON is at most a few levels deep: this one is nested too deep") from None


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def of_kind(kind: Any, data: Any, name: str) -> Any:
    """Return plain `data` as a value of the annotated type `kind`. A field that the data lacks takes its default.

    Args:
        kind: The type.
        data: As JSON or the database has it; a database that others write to may hold anything.
        name: Of the value, as an error calls it.

    Raises:
        ValueError: The data is not of this type.
    """
    if type(data) is kind and kind in _PLAIN:
        return data
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if data is None else of_kind(next(a for a in arguments if a is not types.NoneType), data, name)
    if origin is typing.Literal and data in arguments:
        return data
    if origin is tuple and isinstance(data, list):
        return tuple(of_kind(arguments[0], item, name) for item in data)
    if origin in (dict, Mapping) and isinstance(data, dict):
        return {each: of_kind(arguments[1], item, each) for each, item in data.items()}
    if dataclasses.is_dataclass(kind) and isinstance(data, dict):
        hints = _hints(cast(type, kind))
        known = {field.name for field in dataclasses.fields(kind)}
        values = {each: of_kind(hints[each], item, each) for each, item in data.items() if each in known}
        try:
            return cast(Any, kind)(**values)
        except TypeError as error:  # a field is missing
            raise ValueError(str(error)) from None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float and (data is None or (isinstance(data, int | float) and not isinstance(data, bool))):
        return number(data)
    if kind is Path and isinstance(data, str):
        return Path(data)
    raise ValueError(f"{name} is not of the kind {getattr(kind, '__name__', kind)}: {data!r:.60}")


def numbers(text: str) -> dict[str, float]:
    """Return what JSON text maps names to; null is a number that is none."""
    found = parsed(text)
    if not isinstance(found, dict):
        raise ValueError(f"metrics have names: {text!r:.60} has none")
    for name, value in found.items():
        if value is None:
            found[name] = number(value)
        elif type(value) is not float and type(value) is not int:
            raise ValueError(f"metric {name} is no number: {value!r:.60}")
    return found
