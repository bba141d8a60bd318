"""Δm: how much better several tasks together are than each alone (Maninis et al., 2019; Vandenhende et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.core import Task
from nas.tasks.kind import TaskKind

Twins = Mapping[str, float | None]


def delta_m(metrics: Mapping[str, float], twins: Twins, tasks: Sequence[Task], kinds: Mapping[str, TaskKind]) -> float:
    """Return the mean relative change of each task's headline metric against its single-task twin, in percent.

    Args:
        metrics: Of the multi-task network, such as ``miou.seg``.
        twins: The same metrics of networks trained on one task each; None is a metric that is no number.
        tasks: At least one.
        kinds: Task kinds by name.

    Returns:
        Positive where together is better: Δm = 100/T · Σ ±(M - S)/S, with the sign of metrics that fall turned around. NaN
        where a twin's metric is zero or no number (`without_zero`), or the network's is none.
    """
    if without_zero(twins, tasks, kinds):
        return math.nan
    total = 0.0
    for task in tasks:
        headline = kinds[task.kind].metrics[0]
        together, alone = metrics[f"{headline.name}.{task.name}"], twins[f"{headline.name}.{task.name}"] or math.nan
        total += (1 if headline.higher_is_better else -1) * (together - alone) / alone
    return 100 * total / len(tasks)


def without_zero(twins: Twins, tasks: Sequence[Task], kinds: Mapping[str, TaskKind]) -> dict[str, float | None]:
    """Return the headline metrics of twins, by name, that no change can be relative to: those that are zero or no number."""
    names = [f"{kinds[task.kind].metrics[0].name}.{task.name}" for task in tasks]
    return {name: twins[name] for name in names if not (value := twins[name]) or not math.isfinite(value)}
