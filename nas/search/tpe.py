"""Multivariate tree-structured Parzen estimators (Bergstra et al., 2011; Falkner et al., 2018), by Optuna."""

from __future__ import annotations

from optuna.samplers import BaseSampler, TPESampler

from nas.search.sampler import START, SamplerSearcher


class TPESearcher(SamplerSearcher):
    """Samples where good architectures are denser than bad ones; limits are Optuna constraints."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return a multivariate sampler: the univariate one repeats a fifth of its trials."""
        return TPESampler(multivariate=True, n_startup_trials=START, seed=seed)
