"""What the tests give to workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.core import DataError


class Counter:
    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, number: int) -> int:
        self.value += number
        return self.value

    def fail(self) -> None:
        raise DataError("no such file")

    def die(self) -> None:
        os._exit(1)

    def process(self) -> int:
        return os.getpid()

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())


class Broken:
    def __init__(self) -> None:
        raise DataError("not made")


def two_rows(config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    report({"value": config["base"]})
    report({"value": config["base"] + 1})


def fails(config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    raise ValueError("it cannot be")


def falls(config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Report ever better scores; `after`, a file that another run leaves at its end, makes this run come later."""
    while "after" in config and not Path(config["after"]).exists():
        time.sleep(0.01)
    for epoch in range(1, 9):
        if epoch == 8 and "leaves" in config:
            Path(config["leaves"]).touch()
        report({"epoch": epoch, "score": config["end"] + 1 / epoch})


def endless(config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    while True:
        report({"value": 0})
        time.sleep(0.1)
