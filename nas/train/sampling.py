"""Random subnets of a training step, spread evenly over sizes."""

from __future__ import annotations

import numpy as np

from nas.core import ArchConfig, SearchSpace


def sample_spread(space: SearchSpace, rng: np.random.Generator) -> ArchConfig:
    """Return an architecture whose size is anywhere between the smallest and the largest.

    Choices picked one by one average out: nearly every subnet is then of middling size, and those a search wants most,
    the slim ones, are hardly trained (Wang et al., AttentiveNAS, CVPR 2021, correct the same bias by FLOPs). Here a
    subnet first draws how large it leans, u uniform in [0, 1]; every choice of n options, ordered smallest first, then
    takes option Binomial(n - 1, u). Over u that is the discrete uniform distribution, so each choice alone is picked as
    evenly as by `SearchSpace.sample`, but the choices of one subnet agree with each other.
    """
    u = rng.random()
    return space.arch({c.name: c.options[rng.binomial(len(c.options) - 1, u)] for c in space.choices})
