"""How long the measurements of one stage may go on until they meet quiet moments.

A latency is measured until parts of the measurement agree (`hw_profiles.timing`), which on a crowded machine may be never. Each
of thirty networks would take its whole patience, though waiting helps little. So a stage has a least time for each network and
a patience that all of them share: what a quiet measurement leaves, a disturbed one later may take.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_S = 30.0  # of one measurement
PATIENCE_S = 30.0  # of a stage
SHARES = 3.0  # even shares of the patience that one network may take: most need none


@dataclass
class LatencyBudget:
    """The time that is left to a stage.

    Attributes:
        networks: That are still to be measured.
        least_s: Of each.
        shared_s: Beyond that, of all of them together. A negative number stands for as much again as the least of all of them,
            but no more than `PATIENCE_S`.
    """

    networks: int
    least_s: float
    shared_s: float = -1.0

    def __post_init__(self) -> None:
        if self.shared_s < 0:
            self.shared_s = min(PATIENCE_S, self.networks * self.least_s)

    @contextmanager
    def next(self) -> Iterator[float]:
        """Give the seconds that the next network may take; what it takes beyond the least is gone from what is shared."""
        began = time.perf_counter()
        yield min(MOST_S, self.least_s + max(0.0, self.shared_s) / max(1, self.networks) * SHARES)
        self.shared_s -= max(0.0, time.perf_counter() - began - self.least_s)
        self.networks -= 1
