"""JSON that every parser reads: a number that is none, or has no end, is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, indent: int | None = None, ensure_ascii: bool = True, sort_keys: bool = False) -> str:
    """Return the JSON text of a value made of mappings, lists, tuples and plain values.

    Args:
        value: NaN and infinities in it, which JSON has no numbers for, become null.
        indent: Spaces per level; None writes one line.
        ensure_ascii: Whether other letters are escaped.
        sort_keys: Whether equal mappings give equal texts.
    """
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=ensure_ascii, sort_keys=sort_keys, allow_nan=False)


def without_nan(value: Any) -> Any:
    """Return a JSON-able value with None in place of every NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def number(value: float | None) -> float:
    """Return a number that was read from JSON: NaN where it is null."""
    return math.nan if value is None else float(value)
