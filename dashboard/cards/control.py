"""What is predicted of the subnet that a budget and preferences ask for, beside how far predictions are off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dashboard import units
from nas.core import ArchConfig, Objective, Option
from nas.core.control import Controlled, ControlTable

STEPS = 60  # of a budget's slider


def budgets(table: ControlTable, metric: str) -> list[float]:
    """Return the budgets of a slider, from the smallest that a subnet keeps to one that all keep, in equal ratios."""
    low, high = table.range_of(metric)
    return [low, *(float(value) for value in np.geomspace(low, max(high, low * 1.001), STEPS)[1:])]


def info(picked: Controlled, budget: Objective) -> pd.DataFrame:
    """Return a row per predicted metric: ``Metric``, ``Predicted``, ``Off by`` and ``Compared with the budget``."""
    rows = [
        {
            "Metric": units.label(name),
            "Predicted": units.number(name, value),
            "Off by": f"± {units.number(name, picked.std[name])}" if picked.std[name] else "counted",
            "Compared with the budget": units.number(name, picked.most[name]) if name == budget.metric else "",
        }
        for name, value in picked.metrics.items()
    ]
    return pd.DataFrame(rows)


def supernet(table: ControlTable) -> ArchConfig:
    """Return the largest options of every choice, for drawing what a subnet leaves out."""
    picks: dict[str, Option] = {name: options[-1] for name, options in table.choices}
    return ArchConfig(picks | {f"decoder.{task}.width": table.widths[-1] for task in table.tasks})


def command(job: str, budget: Objective, preference: Mapping[str, float]) -> str:
    """Return the command that measures and exports the subnet."""
    weights = ",".join(f"{task}={weight:g}" for task, weight in preference.items())
    return f"nas export {job} --budget '{budget.metric}<={budget.limit:.6g}' --prefer {weights}"
