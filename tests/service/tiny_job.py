"""Jobs that take seconds, and an audit of what a job's drivers and workers really did."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from nas.core import DataSpec, JobSpec, Objective, SearchSpec, SpaceSpec, TaskSpec, TrainingSpec

COSTS = (Objective("error.seg"), Objective("error.depth"), Objective("latency_ms@local"))


def tiny_spec(**changes: Any) -> JobSpec:
    """Return a job of some seconds on generated scenes; `changes` replace fields of the job."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "tasks": (TaskSpec("seg"), TaskSpec("depth")),
        "objectives": COSTS,
        "executor": "local",
        "data": DataSpec("scenes", options={"images": 32, "test_images": 8, "size": 16}, val_fraction=0.25),
        "space": SpaceSpec(options={"channels": [16, 32], "decoder_channels": 16, "widths": [0.5, 1.0], "resolutions": [1.0]}),
        "training": TrainingSpec(epochs=2, batch_size=8, precision="fp32"),
        "search": SearchSpec("random", evaluations=6, batch_size=3, profile_samples=4, calibration_images=8, verify=3),
    }
    return JobSpec(**(fields | changes))


def until(condition: Callable[[], Any], timeout_s: float = 120.0, message: str = "it never came true") -> Any:
    """Return the first true value of `condition`, asked twenty times a second."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, message
        time.sleep(0.05)
    return value


class Audit:
    """Counts every row that any process hands to a SQLite store, also one that the store already has and so drops.

    An evaluation done twice leaves one row in the store and two here.

    Args:
        path: The store's file, which holds no row yet.
    """

    TABLES: ClassVar = {
        "evaluations": ("stage", "arch_key"),
        "profiles": ("device", "arch_key"),
        "curve_points": ("name", "step"),
    }

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as connection:
            connection.execute("CREATE TABLE audit (tab TEXT, a TEXT, b TEXT)")
            for table, (first, second) in self.TABLES.items():
                connection.execute(
                    f"CREATE TRIGGER audit_{table} BEFORE INSERT ON {table} "
                    f"BEGIN INSERT INTO audit VALUES ('{table}', NEW.{first}, NEW.{second}); END"
                )

    def count(self, table: str) -> Counter[tuple[str, str]]:
        """Return how often each row was handed in."""
        with self._open() as connection:
            return Counter(connection.execute("SELECT a, b FROM audit WHERE tab = ?", (table,)).fetchall())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            yield connection
