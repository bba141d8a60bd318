"""What the searchers share whose proposals an Optuna sampler makes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from nas.core import ArchConfig, Objective, SearchSpace
from nas.search.history import Exact, HistorySearcher
from nas.search.start import stratified_start
from nas.search.study import distributions, sampling_study, to_trial

START = 16  # evaluations before the sampler is asked; also a generation


class SamplerSearcher(HistorySearcher):
    """Asks an Optuna study in memory, which holds the history; a new sampler each time makes it depend on nothing else."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact) -> None:
        super().__init__(space, objectives, seed, exact)
        self._study = sampling_study(self.objectives)
        self._added = 0

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """Return a new sampler."""

    def system_attrs(self, index: int) -> Mapping[str, Any]:
        """Return what the sampler keeps of the evaluation told as number `index`, counted from 0."""
        return {}

    def prepare(self, study: optuna.Study, sampler: BaseSampler) -> None:
        """Bring a study up to date that the sampler did not see grow."""

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield a start that covers all sizes, then what the sampler proposes; running trials keep a batch apart."""
        if len(self.archs) < START:
            yield from (arch for arch in stratified_start(self.space, START, self.seed) if not self.is_seen(arch))
        self._study.sampler = sampler = self.sampler(int(rng.integers(2**31)))
        self._update()
        self.prepare(self._study, sampler)
        known = distributions(self.space)
        while True:
            yield self.space.arch(self._study.ask(known).params)

    def _update(self) -> None:
        """Add what was told, and let exactly the architectures that wait be running trials."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        for index in range(self._added, len(self.archs)):
            attrs = self.system_attrs(index)
            self._study.add_trial(to_trial(self.space, self.objectives, self.archs[index], self.values[index], attrs))
        self._added = len(self.archs)
        self._study.add_trials([to_trial(self.space, self.objectives, arch, None) for arch in self.waiting.values()])
