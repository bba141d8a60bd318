"""How many seconds the parts of a measurement took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SECONDS = "seconds."  # begins the names of times that a worker returns among its metrics


class Stopwatch:
    """Adds up the seconds of named parts: ``training``, ``batch_norms``, ``export``, ``accuracy``, ``latency``.

    A worker returns them among its metrics (`named`), and whoever makes an evaluation takes them out again (`parted`).
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def named(self) -> dict[str, float]:
        """Return the seconds under names that no metric has."""
        return {f"{SECONDS}{name}": value for name, value in self.seconds.items()}


def parted(measured: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return what a worker measured as its metrics, and its seconds by part."""
    metrics = {name: value for name, value in measured.items() if not name.startswith(SECONDS)}
    return metrics, {name.removeprefix(SECONDS): value for name, value in measured.items() if name.startswith(SECONDS)}
