"""Arrays of an .npz file; whatever is wrong with the file is one sentence."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import DataError
from nas.core.unforeseen import one_line


def read_arrays(path: Path, names: Sequence[str], what: str) -> list[NDArray[Any]]:
    """Return arrays by their names.

    Args:
        path: The file.
        names: Of the arrays.
        what: What the file should be, such as ``the .npz of nyuv2``.

    Raises:
        DataError: It is no such file, did not arrive whole, or lacks an array.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip file, or a part of one")
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except Exception as error:  # zip and zlib have many ways to say that a file is damaged
        raise damaged(path, what, names, error) from error


def npz_shape(path: Path, name: str, what: str) -> tuple[int, ...]:
    """Return the shape of an array, from its header alone.

    Raises:
        DataError: As `read_arrays`.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as array:
            version = np.lib.format.read_magic(array)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(read(array)[0])
    except Exception as error:
        raise damaged(path, what, [name], error) from error


def damaged(path: Path, what: str, names: Sequence[str], error: Exception) -> DataError:
    """Return the error of a file that is not what it should be."""
    return DataError(
        f"{path} is not {what}, with the arrays {', '.join(names)}: {type(error).__name__}: {one_line(error)}; "
        "fetch or make it again"
    )
