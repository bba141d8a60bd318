"""Multivariate tree-structured Parzen estimators (Bergstra et al., 2011; Falkner et al., 2018), by Optuna."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from optuna.samplers import TPESampler

from nas.core import ArchConfig
from nas.search.history import HistorySearcher
from nas.search.study import ask_archs, sampling_study, to_trial


class TPESearcher(HistorySearcher):
    """Samples where good architectures are denser than bad ones; limits are Optuna constraints."""

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield what Optuna's TPE samples; running trials keep a batch apart."""
        trials = [to_trial(self.space, self.objectives, *known) for known in zip(self.archs, self.values, strict=True)]
        trials += [to_trial(self.space, self.objectives, arch, None) for arch in self.waiting.values()]
        sampler = TPESampler(multivariate=True, seed=int(rng.integers(2**31)))
        yield from ask_archs(sampling_study(self.objectives, trials, sampler), self.space)
