"""A database that does not answer is asked again, for longer than a server takes to start anew."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from nas.core import StoreError
from nas.store.answers import reason_of, remedy, unanswered

PATIENCE_S = 90.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0  # each pause is twice the one before
LASTING = ("53100", "53200")  # PostgreSQL's codes of a full disk and of too little memory
Method = TypeVar("Method", bound=Callable[..., Any])
log = logging.getLogger(__name__)


def patient(method: Method) -> Method:
    """Return a method of a store that is called again while the database is away, and then says so.

    The method is one transaction and idempotent: where a server dies between a commit and its answer, nothing is lost and
    nothing is there twice. An iterator among its arguments is read once, before the first call.

    Raises:
        StoreError: The database was away for `PATIENCE_S`, or met what does not pass, such as a full disk.
    """

    @functools.wraps(method)
    def call(store: Any, *args: Any, **kwargs: Any) -> Any:
        args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)
        began, pause = time.monotonic(), FIRST_PAUSE_S
        patience_s = 0.0 if store.away else PATIENCE_S  # whoever has waited in vain does not wait again for each last word
        while True:
            try:
                result = method(store, *args, **kwargs)
                store.away = False
                return result
            except UnicodeDecodeError as error:  # SQLite quotes what it met in a damaged file
                raise StoreError(f"the store at {store.place} is damaged; {remedy('malformed', '')}") from error
            except IntegrityError:  # a mistake of ours, not of the database
                raise
            except (DatabaseError, InterfaceError) as error:
                left = began + patience_s - time.monotonic()
                if not _passes(error) or left <= 0:
                    store.away = True
                    raise unanswered(error, store.place) from error
                if pause == FIRST_PAUSE_S:
                    log.warning("the store does not answer (%s); it is asked again for %.0f s", reason_of(error), left)
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_S)

    return cast(Method, call)


def _passes(error: DBAPIError) -> bool:
    """Return whether waiting may help: a server that is away, a lock that another process holds."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if hasattr(error.orig, "sqlite_errorcode"):
        return "locked" in str(error.orig)
    return getattr(error.orig, "sqlstate", None) not in LASTING
