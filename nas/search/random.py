"""Random search, the baseline that every other searcher must beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nas.core import ArchConfig
from nas.search.history import HistorySearcher


class RandomSearcher(HistorySearcher):
    """Picks every active choice uniformly."""

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield random architectures."""
        while True:
            yield self.space.sample(rng)
