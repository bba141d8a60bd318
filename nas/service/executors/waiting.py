"""A call that may never return, such as one into a Ray that died, waited for no longer than what it needs is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

LOOK_S = 0.2
T = TypeVar("T")


def watched(call: Callable[[], T], check: Callable[[], None]) -> T:
    """Return what a call returns, or raise what it raises; where `check` raises meanwhile, leave the call behind."""
    found: list[T] = []
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            found.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, name="nas-watched", daemon=True)
    thread.start()
    while thread.is_alive():
        check()
        thread.join(LOOK_S)
    if errors:
        check()  # what is gone is the cause of whatever the call met
        raise errors[0]
    return found[0]
