"""Rows that cannot be read: they are left out, so that the others stay visible, and said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from nas.core.unforeseen import one_line

Row = TypeVar("Row")
Value = TypeVar("Value")
REMEDY = "put back a copy of the store, or delete what is damaged"


class Damages:
    """What of a store could not be read when it was read last. Each table is read in parts: those of one job."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}

    def readable(self, table: str, part: str, rows: Iterable[Row], decode: Callable[[Row], Value]) -> list[Value]:
        """Return the values of the rows that `decode` can read, and keep what is wrong with the others.

        Args:
            table: Name of the table.
            part: Whose rows they are: a job's, or an empty string.
            rows: Of the table.
            decode: Raises whatever it likes where a row is damaged.
        """
        values, reasons = [], []
        for row in rows:
            try:
                values.append(decode(row))
            except Exception as error:
                reasons.append(one_line(error))
        self._found.pop((table, part), None)
        if reasons:
            self._found[table, part] = reasons
        return values

    def sentences(self) -> list[str]:
        """Return one sentence for each part of a table that holds damaged rows."""
        return [damaged(table, part, reasons) for (table, part), reasons in sorted(self._found.items())]


def damaged(table: str, part: str, reasons: list[str]) -> str:
    """Return what is said of damaged rows: the table, whose they are, what is wrong and what to do."""
    rows = f"{len(reasons)} damaged row{'s' if len(reasons) > 1 else ''}"
    whose = f" of job {part}" if part else ""
    return f"the store's table {table} has {rows}{whose} ({reasons[0][:200]}): left out here; {REMEDY}"
