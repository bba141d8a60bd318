"""Δm: how much better several tasks together are than each alone (Maninis et al., 2019; Vandenhende et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core import Task
from nas.tasks.kind import TaskKind


def delta_m(
    metrics: Mapping[str, float], twins: Mapping[str, float], tasks: Sequence[Task], kinds: Mapping[str, TaskKind]
) -> float:
    """Return the mean relative change of each task's headline metric against its single-task twin, in percent.

    Args:
        metrics: Of the multi-task network, such as ``miou.seg``.
        twins: The same metrics of networks trained on one task each.
        tasks: At least one.
        kinds: Task kinds by name.

    Returns:
        Positive where together is better: Δm = 100/T · Σ ±(M - S)/S, with the sign of metrics that fall turned around.
    """
    total = 0.0
    for task in tasks:
        headline = kinds[task.kind].metrics[0]
        together, alone = metrics[f"{headline.name}.{task.name}"], twins[f"{headline.name}.{task.name}"]
        total += (1 if headline.higher_is_better else -1) * (together - alone) / alone
    return 100 * total / len(tasks)
