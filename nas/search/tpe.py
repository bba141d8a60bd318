"""Multivariate tree-structured Parzen estimators (Bergstra et al., 2011; Falkner et al., 2018), by Optuna."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from optuna.samplers import TPESampler

from nas.core import ArchConfig
from nas.search.history import HistorySearcher
from nas.search.start import stratified_start
from nas.search.study import ask_archs, sampling_study, to_trial

START = 16  # evaluations before the first model


class TPESearcher(HistorySearcher):
    """Samples where good architectures are denser than bad ones; limits are Optuna constraints."""

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield a start that covers all sizes, then what Optuna's TPE samples; running trials keep a batch apart."""
        if len(self.archs) < START:
            start = stratified_start(self.space, START, self.seed)
            yield from (arch for arch in start if not self.is_seen(arch))
        trials = [to_trial(self.space, self.objectives, *known) for known in zip(self.archs, self.values, strict=True)]
        trials += [to_trial(self.space, self.objectives, arch, None) for arch in self.waiting.values()]
        sampler = TPESampler(multivariate=True, n_startup_trials=START, seed=int(rng.integers(2**31)))
        yield from ask_archs(sampling_study(self.objectives, trials, sampler), self.space)
