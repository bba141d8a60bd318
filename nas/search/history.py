"""What every searcher shares: the history, and never the same architecture twice."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import numpy as np

from nas.core import ArchConfig, Evaluation, FloatArray, Objective, ObjectiveError, PredictorReport, SearchSpace

COUNTED = 2**16  # architectures, beyond which a space is taken to have no end
Exact = Mapping[str, Callable[[Sequence[ArchConfig]], FloatArray]]


class HistorySearcher(ABC):
    """A `nas.core.Searcher` whose next proposals depend on its seed and its history alone.

    A sampler supplies `propose`; a proposal that was seen before gives way to an unseen neighbour, and the space is walked
    through when there is none, so that asking ends in a bounded time and comes back short only when nothing is left.

    Args:
        space: What can be proposed.
        objectives: What is improved, and the limits.
        seed: Zero or more.
        exact: Metric to a function that gives its value, of shape (n,), for n architectures: what is counted or cheap to
            predict. Its values stand in for those of the evaluations that are told.

    Attributes:
        archs: The architectures that taught something, in the order in which they were told.
        values: Their objectives as they are (not turned to minimisation), each of shape (m,).
        waiting: Architectures proposed but not told yet, by key.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact) -> None:
        if not objectives:
            raise ObjectiveError("a search needs at least one objective: got none; name one such as macs")
        self.space = space
        self.objectives = tuple(objectives)
        self.seed = seed
        self.exact = {o.metric: exact[o.metric] for o in objectives if o.metric in exact}
        self.archs: list[ArchConfig] = []
        self.values: list[FloatArray] = []
        self.waiting: dict[str, ArchConfig] = {}
        self._seen: set[str] = set()
        self._taught: set[str] = set()
        size = space.count(COUNTED)
        self._size = size if size < COUNTED else sys.maxsize

    @abstractmethod
    def propose(self, count: int, rng: np.random.Generator) -> Iterable[ArchConfig]:
        """Yield architectures, the best first; some may have been seen. About `count` of them are taken."""

    def reports(self) -> list[PredictorReport]:
        """Return how well what was proposed had been predicted, one report for each metric that is predicted."""
        return []

    def is_seen(self, arch: ArchConfig) -> bool:
        """Return whether the architecture was proposed or told before."""
        return arch.key in self._seen

    def ask(self, count: int) -> list[ArchConfig]:
        """Return at most `count` distinct architectures that were never proposed or told before."""
        count = min(count, self._size - len(self._seen))
        if count <= 0:
            return []
        rng = np.random.default_rng([self.seed, len(self._seen)])
        asked: list[ArchConfig] = []
        for arch in islice(self.propose(count, rng), 2 * count):
            fresh = self._unseen_neighbour(arch, rng)
            if fresh is not None:
                self._seen.add(fresh.key)
                asked.append(fresh)
            if len(asked) == count:
                break
        if len(asked) < count:
            rest = (arch for arch in self.space.enumerate() if not self.is_seen(arch))
            asked += islice(rest, count - len(asked))
            self._seen.update(arch.key for arch in asked)
        self.waiting.update((arch.key, arch) for arch in asked)
        return asked

    def tell(self, done: Sequence[Evaluation]) -> None:
        """Learn from evaluations; one that failed, or lacks a finite value, only counts as seen.

        Raises:
            ArchError: An architecture is not of this space.
        """
        archs = [self.space.arch(row.arch) for row in done]
        if not archs:
            return
        table = np.array([[row.metrics.get(o.metric, np.nan) for o in self.objectives] for row in done], dtype=float)
        for column, objective in enumerate(self.objectives):
            if objective.metric in self.exact:
                table[:, column] = self.exact[objective.metric](archs)
        for arch, row, values in zip(archs, done, table, strict=True):
            self._seen.add(arch.key)
            self.waiting.pop(arch.key, None)
            if not row.failure and np.isfinite(values).all() and arch.key not in self._taught:
                self._taught.add(arch.key)
                self.archs.append(arch)
                self.values.append(values)

    def _unseen_neighbour(self, arch: ArchConfig, rng: np.random.Generator) -> ArchConfig | None:
        """Return `arch` if it is unseen, else an unseen mutation of it, the fewer flips the better."""
        flips = 0
        while self.is_seen(arch) and flips < len(self.space.choices):
            flips += 1
            mutated = self.space.mutate(arch, rng, flips)
            if not self.is_seen(mutated):
                return mutated
        return None if self.is_seen(arch) else arch
