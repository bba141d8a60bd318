"""What a database says when it cannot do what was asked, as an error that names the remedy."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from nas.core import StoreError
from nas.core.unforeseen import one_line

# What the messages of SQLite and PostgreSQL have in common, and what to do about it; the first that fits counts.
_REMEDIES = (
    (("readonly", "read-only", "permission denied"), "ask its owner for the right to write, or copy its folder"),
    (("disk is full", "no space left", "disk i/o error"), "make room on its disk and try again"),
    (("malformed", "not a database", "corrupt", "no such column", "no such table"), "put back a copy of it, or name another"),
    (("too big", "too large"), "ask for less at a time"),
)
_DAMAGED = _REMEDIES[2][0]


def remedy(reason: str, otherwise: str) -> str:
    """Return what helps where a database gives `reason`."""
    lower = reason.lower()
    return next((text for signs, text in _REMEDIES if any(sign in lower for sign in signs)), otherwise)


def reason_of(error: Exception) -> str:
    """Return what the database itself said, in one line."""
    original = getattr(error, "orig", None)
    return one_line(original if isinstance(original, BaseException) else error)


def unanswered(error: DBAPIError, place: str) -> StoreError:
    """Return the error of a store that could not do what was asked.

    Args:
        error: As the database's driver raised it.
        place: The store, as a person knows it.
    """
    reason = reason_of(error)
    if any(sign in reason.lower() for sign in _DAMAGED):
        return StoreError(f"the store at {place} is damaged: {reason}; {remedy(reason, '')}")
    what = "cannot be written" if "readonly" in reason else "did not answer"
    return StoreError(f"the store {what}: {reason} ({place}); {remedy(reason, 'check its disk or server and try again')}")
