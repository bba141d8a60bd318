"""NSGA-II (Deb et al., 2002), by Optuna."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from optuna.samplers import NSGAIISampler

from nas.core import ArchConfig
from nas.search.history import HistorySearcher
from nas.search.start import stratified_start
from nas.search.study import ask_archs, sampling_study, to_trial

POPULATION = 16  # Optuna's 50 would leave a search of 100 evaluations one generation
GENERATION = "NSGAIISampler:generation"  # where Optuna's BaseGASampler keeps a trial's generation


class NSGA2Searcher(HistorySearcher):
    """A genetic algorithm with non-dominated sorting; limits are Optuna constraints (feasible ones dominate)."""

    def propose(self, count: int, rng: np.random.Generator) -> Iterator[ArchConfig]:
        """Yield a first generation that covers all sizes, then children; every 16 evaluations told are a generation."""
        if len(self.archs) < POPULATION:
            start = stratified_start(self.space, POPULATION, self.seed)
            yield from (arch for arch in start if not self.is_seen(arch))
        trials = [
            to_trial(self.space, self.objectives, arch, values, {GENERATION: i // POPULATION})
            for i, (arch, values) in enumerate(zip(self.archs, self.values, strict=True))
        ]
        sampler = NSGAIISampler(population_size=POPULATION, seed=int(rng.integers(2**31)))
        study = sampling_study(self.objectives, trials, sampler)
        for generation in range(1, len(trials) // POPULATION + 1):  # from the first on: Optuna would recurse
            sampler.get_parent_population(study, generation)
        yield from ask_archs(study, self.space)
