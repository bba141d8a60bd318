"""One tree of exceptions.

    NasError
    ├── UserError               the user can mend it; the command line exits with 2 and prints no traceback
    │   ├── JobFileError        a job file that breaks a rule: names the line, the value and the nearest valid one
    │   ├── ArchError           picks that are no architecture of the space
    │   ├── ObjectiveError      an objective or limit that cannot be read or met
    │   ├── DataError           data that cannot be loaded or lacks what a task needs
    │   ├── DeviceError         a device that is not known or cannot run the model
    │   ├── StoreError          a store that cannot be opened or does not answer
    │   └── NotFoundError       a job, architecture or artifact that the store does not hold
    ├── ExportError             an export that failed one of its checks; no file is left behind
    ├── WorkerError             a worker died or stopped answering; the driver may try again
    │   ├── CrashError          its own code killed it, by a signal; it is likely to do so again
    │   └── OutOfMemoryError    it asked for more memory than there is
    ├── ClusterLostError        what runs the workers is gone; the driver may start it again
    ├── LostLeaseError          another driver has taken the job over; this one ends and writes nothing
    └── CancelledError          the job was cancelled by its user

Messages state the rule, then the offending value, then the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(NasError):
    """A mistake the user can mend."""


class JobFileError(UserError):
    """A job file that breaks a rule.

    Args:
        message: The rule, the value and the remedy, in one sentence or two.
        line: Line of the job file, counted from 1, where known.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


class ArchError(UserError):
    """Picks that are not an architecture of the space."""


class ObjectiveError(UserError):
    """An objective or limit that cannot be read or met."""


class DataError(UserError):
    """Data that cannot be loaded or lacks what a task needs."""


class DeviceError(UserError):
    """A device that is not known or cannot run the model."""


class StoreError(UserError):
    """A store that cannot be opened or does not answer."""


class NotFoundError(UserError):
    """Something the store does not hold."""


class ExportError(NasError):
    """An export that failed one of its checks."""


class WorkerError(NasError):
    """A worker that died or stopped answering."""


class CrashError(WorkerError):
    """A worker that was killed by a signal of its own making, such as a segmentation fault."""


class OutOfMemoryError(WorkerError):
    """A worker that asked for more memory than there is."""


class ClusterLostError(NasError):
    """What runs the workers is gone."""


class LostLeaseError(NasError):
    """Another driver has taken the job over."""


class CancelledError(NasError):
    """The job was cancelled by its user."""


def nearest(value: object, allowed: Iterable[object]) -> str:
    """Return the end of an error message: the nearest allowed value, then all of them.

    Args:
        value: What the user wrote.
        allowed: What would have been valid.

    Returns:
        For example ``did you mean 'depth'? Allowed: depth, normals, seg``.
    """
    names = [str(option) for option in allowed]
    if not names:
        return "nothing is allowed here"
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"Allowed: {listed}"
