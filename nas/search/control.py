"""From which preference on decoders are wider, chosen once per supernet so that little is lost against free decoders. Ours.

At each budget, from the smallest on, all step functions are compared that are at least as wide everywhere as those of the
budget before. Those that no subnet could keep the budget under, for some preference, are left out, and those under which a
sampled preference would lose score against the former steps; of the others, the one with the best mean score is taken. So a
wider budget never lowers the score of a sampled preference. Between the samples that holds as far as they are dense.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, product

import numpy as np

from nas.core import BoolArray, Codes, FloatArray
from nas.core.control import TIE, Cost, Steps, vectors

BUDGETS = 48  # at which the steps may change, evenly spread on a logarithmic scale
MOST_FUNCTIONS = 4000  # that are compared
FINEST = 40  # thresholds between 0 and 1
MOST_PREFERENCES = 250  # on the lattice, and as many random ones
NEVER = np.inf


def choose_steps(relative: FloatArray, cost: Cost, rng: np.random.Generator) -> Steps:
    """Return the steps of the decoders under budgets for one cost.

    Args:
        relative: Error of each task, relative to the largest subnet's, shape (tasks, encoders, widths).
        cost: Of every subnet.
        rng: Draws preferences.
    """
    tasks, _, widths = relative.shape
    most = np.asarray(cost.predicted, dtype=float) * (1 + cost.margin)
    combinations = vectors(tasks, widths)
    least = most.min(axis=0)  # of each combination of decoders
    budgets = np.geomspace(least[0], most.max(), BUDGETS) if most.max() > least[0] > 0 else np.array([least[0]])
    budgets[0] = least[0]  # exactly: the smallest subnet keeps it
    preferences = sample_preferences(tasks, rng)
    best = best_scores(relative, most, combinations, budgets, preferences)
    functions = step_functions(widths)
    taken = (preferences[None, :, :, None] >= functions[:, None, None, :]).sum(axis=-1)  # (functions, preferences, tasks)
    columns = np.ravel_multi_index(tuple(np.moveaxis(taken, -1, 0)), (widths,) * tasks)
    needed = np.where(_reachable(functions, combinations), least, -np.inf).max(axis=1)
    each, current = np.arange(len(preferences)), len(functions) - 1  # the last function never widens
    chosen, regrets = [], []
    for level, budget in enumerate(budgets):
        allowed = np.flatnonzero((needed <= budget) & (functions <= functions[current]).all(axis=1))
        scores = best[columns[allowed], level, each]
        allowed = allowed[(scores <= best[columns[current], level, each] + TIE).all(axis=1)]
        means = best[columns[allowed], level, each].mean(axis=1)
        current = int(allowed[means <= means.min() + TIE][-1])  # of equals the narrowest
        chosen.append(functions[current])
        regrets.append(float((best[columns[current], level, each] - best[:, level].min(axis=0)).mean()))
    return Steps(budgets, np.array(chosen).reshape(len(budgets), widths - 1), float(np.mean(regrets)))


def best_scores(
    relative: FloatArray, most: FloatArray, combinations: Codes, budgets: FloatArray, preferences: FloatArray
) -> FloatArray:
    """Return the best score of any encoder, shape (combinations, budgets, preferences); infinite where none fits.

    Args:
        relative: Shape (tasks, encoders, widths).
        most: Cost that is compared with a budget, shape (encoders, combinations).
        combinations: Widths of the decoders, shape (combinations, tasks).
        budgets: Ascending, shape (budgets,).
        preferences: Shape (preferences, tasks).
    """
    tasks = np.arange(len(relative))
    best = np.full((len(combinations), len(budgets), len(preferences)), np.inf)
    for column, widths in enumerate(combinations):
        order = np.argsort(most[:, column], kind="stable")
        running = np.minimum.accumulate(relative[tasks, :, widths].T[order] @ preferences.T, axis=0)
        fitting = np.searchsorted(most[order, column], budgets, side="right")
        best[column, fitting > 0] = running[fitting[fitting > 0] - 1]
    return best


def step_functions(widths: int) -> FloatArray:
    """Return the thresholds of step functions of a preference, shape (n, widths - 1), never falling along a row.

    They lie between round numbers, so that no preference that a person writes lies on one. The last function never steps.
    """
    steps = widths - 1
    finest = next(n for n in range(FINEST, 0, -1) if n == 1 or math.comb(n + steps, steps) <= MOST_FUNCTIONS)
    values = [*((np.arange(finest) + 0.5) / finest).tolist(), NEVER]
    return np.array(list(combinations_with_replacement(values, steps)), dtype=float).reshape(-1, steps)


def sample_preferences(tasks: int, rng: np.random.Generator) -> FloatArray:
    """Return a lattice on the simplex, its corners and its centre among them, and random points, shape (n, tasks)."""
    finest = next(n for n in range(20, 0, -1) if n == 1 or math.comb(n + tasks - 1, tasks - 1) <= MOST_PREFERENCES)
    lattice = [parts for parts in product(range(finest + 1), repeat=tasks - 1) if sum(parts) <= finest]
    points = np.array([[*parts, finest - sum(parts)] for parts in lattice], dtype=float) / finest
    return np.vstack([points, np.full((1, tasks), 1.0 / tasks), rng.dirichlet(np.ones(tasks), MOST_PREFERENCES)])


def _reachable(functions: FloatArray, combinations: Codes) -> BoolArray:
    """Return which decoders some preference gets under each function, or more, shape (functions, combinations)."""
    lowest = np.hstack([np.zeros((len(functions), 1)), functions])  # preference that each width needs
    return np.asarray(lowest[:, combinations].sum(axis=-1) <= 1 + 1e-12)
