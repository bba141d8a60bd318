"""What a data set's file supplies to the table in `nas.data.loading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from nas.core import DataError, DataSpec, Task, nearest
from nas.data.dataset import MultiTaskData


class DataSource(Protocol):
    """A data set that can be loaded. Every method checks the options and the path, and raises DataError.

    Attributes:
        options: Allowed options with their defaults.
    """

    options: ClassVar[Mapping[str, Any]]

    def tasks(self, spec: DataSpec) -> tuple[Task, ...]:
        """Return every task on offer, without reading large arrays. Called when a job file is checked."""
        ...

    def shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """Return channels, height and width of the images, without reading large arrays."""
        ...

    def load(self, spec: DataSpec, wanted: Sequence[Task]) -> MultiTaskData:
        """Return the data of the tasks in `wanted`, in that order, with an empty `val`. Called once per process."""
        ...


def read_options(spec: DataSpec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `defaults` overridden by the options of `spec`.

    Raises:
        DataError: An option is not among the defaults.
    """
    for name in spec.options:
        if name not in defaults:
            raise DataError(f"{name!r} is no option of data {spec.name!r}; {nearest(name, defaults)}")
    return {**defaults, **spec.options}


def integer_option(spec: DataSpec, options: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return an option that is a whole number in [low, high].

    Raises:
        DataError: It is not.
    """
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        close = min(max(value, low), high) if isinstance(value, int) else low
        raise DataError(
            f"option {name!r} of data {spec.name!r} is a whole number from {low} to {high}: got {value!r}; "
            f"the nearest valid one is {int(close)}"
        )
    return value


def no_file(spec: DataSpec) -> None:
    """Check that no path was given to a data set that has no file.

    Raises:
        DataError: One was.
    """
    if spec.path is not None:
        raise DataError(f"data {spec.name!r} has no file, and a path was given: {spec.path}; remove `path`")


def existing_file(spec: DataSpec, path: object, what: str) -> Path:
    """Return a path to a file that is there.

    Raises:
        DataError: No path was given, or there is no such file.
    """
    if not path or not isinstance(path, str):
        raise DataError(f"data {spec.name!r} needs {what}; got {path!r}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"data {spec.name!r} needs {what}: there is no file {path!r} (looked in {Path.cwd()})")
    return file
