"""Which encoders a control table holds: all of them, or those that win for some preference, budget and decoders. Ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.core import ArchConfig, Codes, FloatArray, Option
from nas.search.codes import Coder
from nas.search.control import BUDGETS, sample_preferences

MOST = 4096  # encoders, where not all are held
ROUNDS = 6  # of varying the winners
FLIPS = 1.5  # choices that change, on average

Predicted = Callable[[Codes, int], tuple[FloatArray, FloatArray]]
"""Codes (n, choices) and the decoders' combination to errors (tasks, n) and costs (costs, n)."""


def choose_encoders(
    coder: Coder,
    fixed: Mapping[str, Option],
    seen: Sequence[ArchConfig],
    predicted: Predicted,
    combinations: int,
    limit: int,
    always: Codes,
    rng: np.random.Generator,
) -> Codes:
    """Return the codes of at most `limit` distinct encoders, the smallest and the largest among them.

    Args:
        coder: Of the encoders' choices.
        fixed: Options that every encoder takes.
        seen: Encoders to begin with.
        predicted: What is predicted of encoders.
        combinations: Combinations of decoders: the first is the smallest, the last the largest.
        limit: At least two, and those that are always held.
        always: Codes of more encoders to hold, shape (n, choices).
        rng: Draws encoders.
    """
    space, width = coder.space, len(coder.sizes)
    columns = {name: i for i, name in enumerate(choice.name for choice in space.choices)}

    def named(codes: Codes) -> Codes:
        """Return distinct encoders with the fixed options."""
        for name, option in fixed.items():
            codes[:, columns[name]] = space[name].options.index(option)
        return np.unique(coder.canonical(codes), axis=0)

    def free(choice: str) -> int:
        return 1 if choice in fixed else len(space[choice].options)

    if np.prod([float(free(choice.name)) for choice in space.choices]) <= limit:
        sizes = [free(choice.name) for choice in space.choices]
        return named(np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), axis=1).astype(np.int16))
    limit = min(limit, MOST)
    ends = np.vstack([np.zeros(width), coder.sizes - 1, always]).astype(np.int16)
    pool = named(np.vstack([ends, coder.fill(coder.encode(seen), rng), coder.sample(rng.random(limit), rng)]))
    for _ in range(ROUNDS):
        winners = pool[_winners(pool, predicted, combinations, limit // 2, rng)]
        left, right, alone = coder.fill(winners[rng.integers(len(winners), size=3 * (limit // 2))], rng).reshape(3, -1, width)
        crossed = coder.cross(left, right, rng)
        changed = coder.mutate(alone, np.full(len(alone), FLIPS), rng)
        pool = named(np.vstack([ends, coder.fill(winners, rng), crossed, changed]))
    best = pool[_winners(pool, predicted, combinations, limit - len(ends), rng)]
    return named(np.vstack([ends, coder.fill(best, rng)]))


def _winners(pool: Codes, predicted: Predicted, combinations: int, limit: int, rng: np.random.Generator) -> list[int]:
    """Return the rows that are the best for some preference under some budget, those first that are for most."""
    wins = np.zeros(len(pool), dtype=int)
    for combination in (0, combinations // 2, combinations - 1):
        errors, costs = predicted(pool, combination)
        scores = (errors / errors.mean(axis=1, keepdims=True)).T @ sample_preferences(len(errors), rng).T
        for cost in costs:
            for budget in np.geomspace(max(cost.min(), 1e-12), max(cost.max(), 1e-12), BUDGETS):
                fits = np.flatnonzero(cost <= budget * (1 + 1e-9))
                np.add.at(wins, fits[scores[fits].argmin(axis=0)], 1)
    ranked = np.argsort(-wins, kind="stable")[:limit]
    return [int(row) for row in ranked if wins[row]]
