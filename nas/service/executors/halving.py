"""Which of several training runs are worth going on with (asynchronous successive halving: Li et al., ASHA, MLSys 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Halving:
    """Runs are compared at rungs, epochs `first`, `first`·`factor` and so on; at each, the best of `factor` goes on.

    Attributes:
        score: What a reported row calls the number that is minimised. A row that lacks it is not compared.
        time: What it calls the epochs done.
        first: Epochs before the first comparison.
        most: Epochs of a run that goes on to the end.
        factor: Of how many runs one goes on.
    """

    score: str = "score"
    time: str = "epoch"
    first: int = 1
    most: int = 1
    factor: int = 2

    @property
    def rungs(self) -> list[int]:
        """Epochs at which runs are compared, the last first."""
        found = [self.first]
        while found[-1] * self.factor < self.most:
            found.append(found[-1] * self.factor)
        return [epoch for epoch in reversed(found) if epoch < self.most]


class Rungs:
    """What runs that follow each other had at every rung; the rule is the one that Ray Tune has for runs side by side."""

    def __init__(self, halving: Halving) -> None:
        self._halving = halving
        self._seen: dict[int, dict[str, float]] = {rung: {} for rung in halving.rungs}

    def goes_on(self, name: str, row: Mapping[str, Any]) -> bool:
        """Return whether a run is worth going on with after a row: among the best of what reached its rung so far."""
        rule = self._halving
        if rule.score not in row:
            return True
        for rung, seen in self._seen.items():
            if row[rule.time] < rung or name in seen:
                continue
            before = list(seen.values())
            seen[name] = float(row[rule.score])
            return not before or seen[name] <= float(np.nanpercentile(before, 100 / rule.factor))
        return True
