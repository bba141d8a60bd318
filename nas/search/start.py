"""What to measure before anything is known."""

from __future__ import annotations

import numpy as np

from nas.core import ArchConfig, SearchSpace
from nas.search.codes import Coder


def stratified_start(space: SearchSpace, count: int, seed: int) -> list[ArchConfig]:
    """Return the smallest and the largest architecture, then others whose sizes are stratified, in a random order.

    Uniform picks would nearly all be of middling size. The same seed gives the same list; a small space repeats some.

    Args:
        space: The space.
        count: How many, at least 3.
        seed: Of the order and the picks.
    """
    rng = np.random.default_rng(seed)
    coder = Coder(space)
    levels = (rng.permutation(count - 2) + rng.random(count - 2)) / (count - 2)
    between = coder.decode(coder.canonical(coder.sample(levels, rng)))
    return [space.smallest(), space.largest(), *between]
