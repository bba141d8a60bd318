"""Rows for people (a table), for programs (JSON) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from nas.cli.options import Format
from nas.core.json_text import to_json

Row = Mapping[str, Any]


def show(rows: Sequence[Row], form: Format, empty: str = "nothing here", out: TextIO | None = None) -> None:
    """Print rows that all have the same columns.

    Args:
        rows: Column name to a JSON-able value.
        form: ``json`` prints a list of objects; ``csv`` a header and a line per row, with nested values as JSON.
        empty: What a table says where there are no rows.
        out: Where to; standard output by default.
    """
    stream = out or sys.stdout
    if form == "json":
        stream.write(json_text(rows, stream) + "\n")
    elif form == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        if rows:
            writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    elif rows:
        _table(rows, stream)
    else:
        stream.write(empty + "\n")


def json_text(value: Any, stream: TextIO) -> str:
    """Return the JSON of a value, in ASCII where the stream's encoding does not hold every letter."""
    return to_json(value, indent=2, ensure_ascii=not (stream.encoding or "").lower().startswith("utf"))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return to_json(value, ensure_ascii=False)
    return "" if value is None or value != value else str(value)  # NaN differs from itself


def _table(rows: Sequence[Row], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float) or row[name] is None for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", no_wrap=name in ("id", "key"))
    for row in rows:
        table.add_row(*(Text(readable(value)) for value in row.values()))
    # Where nobody watches, a line is as long as it needs to be: a program reads it, or a person later.
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 300)
    console.print(table)


def readable(value: Any) -> str:
    """Return a value as a person reads it: four digits of a number, its thousands as letters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={readable(part)}" for name, part in value.items())
    if not isinstance(value, int | float):
        return str(value)
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"
