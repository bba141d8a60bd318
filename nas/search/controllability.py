"""How well a controlled supernet follows preferences, by the measures of controllable multi-task networks.

Raychaudhuri et al., Controllable Dynamic Multi-Task Architectures (CVPR 2022): the hypervolume that the losses of twenty
preferences, drawn evenly, dominate, and the uniformity of each. Losses here are the tasks' errors relative to the largest
subnet's, and the reference of the hypervolume are those of the smallest; both are ours, as is the comparison with the subnets
of one width throughout, which know no preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.core import Codes, FloatArray, Objective, Option, hypervolume
from nas.core.control import ControlTable
from nas.core.uniformity import uniformity

PREFERENCES = 20
SHARES = (0.25, 0.5, 0.75)  # of the logarithmic range of budgets


@dataclass(frozen=True, slots=True)
class Controllability:
    """What preferences bring under one budget; all predicted.

    Attributes:
        budget: The budget.
        hypervolume: Of the controlled subnets, and of those of one width within the budget.
        uniformity: Mean over the preferences: of the controlled subnets, and of the best one of one width for each preference.
        score: Mean over the preferences, lower is better: as for the uniformity.
    """

    budget: Objective
    hypervolume: tuple[float, float]
    uniformity: tuple[float, float]
    score: tuple[float, float]


def controllability(table: ControlTable, budget: Objective, rng: np.random.Generator) -> Controllability:
    """Return what twenty preferences, drawn evenly from the simplex by `rng`, bring under a budget.

    Raises:
        ObjectiveError: No subnet keeps the budget.
    """
    preferences = rng.dirichlet(np.ones(len(table.tasks)), PREFERENCES)
    picked = [table.control(budget, dict(zip(table.tasks, row.tolist(), strict=True))) for row in preferences]
    losses = np.array([[one.metrics[f"error.{task}"] for task in table.tasks] for one in picked]) / table.largest
    fixed = _uniform_losses(table, budget)
    if len(fixed):
        scores = preferences @ fixed.T  # (preferences, uniform subnets)
        best = fixed[scores.argmin(axis=1)]
        other = float(uniformity(preferences, best).mean()), float(scores.min(axis=1).mean())
    else:
        other = float("nan"), float("nan")
    smallest = table.errors[:, _smallest(table), 0] / table.largest
    return Controllability(
        budget,
        (hypervolume(losses, smallest), hypervolume(fixed, smallest)),
        (float(uniformity(preferences, losses).mean()), other[0]),
        (float((preferences * losses).sum(axis=1).mean()), other[1]),
    )


def budgets(table: ControlTable, metric: str) -> list[Objective]:
    """Return budgets for `metric` that are spread over its range."""
    low, high = table.range_of(metric)
    return [Objective(metric, "min", float(low * (high / low) ** share)) for share in SHARES]


def uniform_codes(choices: Sequence[tuple[str, tuple[Option, ...]]], widths: Sequence[Option]) -> Codes:
    """Return encoders of one width each, shape (widths, choices): all is shared, other choices pick their largest options.

    Args:
        choices: Name and options of every choice of the encoder.
        widths: Ratios.
    """

    def code(name: str, options: tuple[Option, ...], width: Option) -> int:
        if name.startswith("branch."):
            return 0  # where all layers are shared, with the first task
        if not name.endswith(".width"):
            return len(options) - 1
        return min(range(len(options)), key=lambda i: abs(float(options[i]) - float(width)))  # equal sizes have one option

    return np.array([[code(name, options, width) for name, options in choices] for width in widths], dtype=np.int16)


def uniform_subnets(table: ControlTable) -> list[tuple[int, int]]:
    """Return encoder and width of the subnets of `uniform_codes` that the table holds."""
    found = []
    for width, codes in enumerate(uniform_codes(table.choices, table.widths)):
        match = ((table.encoders == codes) | (table.encoders < 0)).all(axis=1)
        found += [(int(encoder), width) for encoder in np.flatnonzero(match)[:1]]
    return found


def _uniform_losses(table: ControlTable, budget: Objective) -> FloatArray:
    """Return the relative errors of the subnets of one width within a budget, shape (n, tasks)."""
    cost, tasks = table.costs[budget.metric], len(table.tasks)
    rows = []
    for encoder, width in uniform_subnets(table):
        most = float(cost.predicted[encoder, table.column((width,) * tasks)]) * (1 + cost.margin)
        if budget.violation(most) <= 0:
            rows.append(table.errors[:, encoder, width] / table.largest)
    return np.array(rows).reshape(-1, tasks)


def _smallest(table: ControlTable) -> int:
    """Return the encoder that picks every first option."""
    return int(np.argmin(np.maximum(table.encoders, 0).sum(axis=1)))
