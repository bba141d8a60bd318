"""Unseen candidates by the ten thousand: a small space whole, a large one by evolution on predictions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas.core import Codes, FloatArray
from nas.search.codes import Coder
from nas.search.improvement import chebyshev_survivors

ENUMERATED = 50_000  # a space up to this size is looked through whole
GENERATIONS = 20
CHILDREN = 1000  # of one generation
SURVIVORS = 300

Estimate = Callable[[Codes], FloatArray]  # codes (n, choices) to what is expected, (n, m), minimised


def violation(values: FloatArray, limits: FloatArray) -> FloatArray:
    """Return by how much limits are crossed in all, shape (n,); zero where they are kept."""
    crossed: FloatArray = np.maximum(values - limits, 0.0).sum(axis=1)
    return crossed


def evolve(
    coder: Coder,
    measured: Codes,
    values: FloatArray,
    met: set[bytes],
    estimate: Estimate,
    limits: FloatArray,
    rng: np.random.Generator,
) -> tuple[Codes, FloatArray]:
    """Return codes (n, choices) that were not met, and what is expected of them, (n, m).

    Args:
        coder: Of the space.
        measured: The first parents, shape (k, choices).
        values: Of the first parents, shape (k, m), minimised.
        met: Rows of codes, as bytes, that are no candidates; grows by all that are looked at.
        estimate: What to minimise under many preferences between the objectives at once.
        limits: Shape (m,), infinite where there are none.
        rng: Of the variation.
    """
    parents = measured
    found, found_values = [measured[:0]], [values[:0]]
    children = coder.sample(rng.random(CHILDREN), rng)
    for _ in range(GENERATIONS):
        children = np.unique(coder.canonical(children), axis=0)
        children = children[[row.tobytes() not in met for row in children]]
        met.update(row.tobytes() for row in children)
        if len(children):
            expected = estimate(children)
            found.append(children)
            found_values.append(expected)
            parents, values = np.concatenate([parents, children]), np.concatenate([values, expected])
        keep = chebyshev_survivors(values, violation(values, limits), SURVIVORS, rng)
        parents, values = parents[keep], values[keep]
        pairs = coder.fill(parents[rng.integers(len(parents), size=(2 * CHILDREN,))], rng)
        crossed = coder.cross(pairs[:CHILDREN], pairs[CHILDREN:], rng)
        children = coder.mutate(crossed, rng.integers(1, 4, size=CHILDREN).astype(float), rng)
    return np.concatenate(found), np.concatenate(found_values)
