"""NSGA-II (Deb et al., 2002), by Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler

from nas.search.sampler import START, SamplerSearcher

POPULATION = START  # Optuna's 50 would leave a search of 100 evaluations one generation
GENERATION = "NSGAIISampler:generation"  # where Optuna's BaseGASampler keeps a trial's generation


class NSGA2Searcher(SamplerSearcher):
    """A genetic algorithm with non-dominated sorting; limits are Optuna constraints (feasible ones dominate)."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return a sampler with small generations."""
        return NSGAIISampler(population_size=POPULATION, seed=seed)

    def system_attrs(self, index: int) -> Mapping[str, Any]:
        """Return the generation: evaluations told from elsewhere belong to one too."""
        return {GENERATION: index // POPULATION}

    def prepare(self, study: optuna.Study, sampler: BaseSampler) -> None:
        """Select each generation's parents in turn, so that a resumed study has those of one that never stopped."""
        assert isinstance(sampler, NSGAIISampler)
        for generation in range(1, len(self.archs) // POPULATION + 1):
            sampler.get_parent_population(study, generation)
