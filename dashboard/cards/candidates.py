"""Every architecture the job looked at, one row each, for the table and the CSV file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboard import units
from nas.core import Evaluation, Objective, Source, front
from nas.core.refinement import verified

STAGES = {
    "verify": "verified",
    "finetuned": "fine-tuned",
    "pruned": "pruned and fine-tuned",
    "control": "controlled",
    "search": "candidate",
    "reused": "reused candidate",
    "screen": "screened out",
}
ORDER = list(STAGES)  # where an architecture has several, the first says most


def info(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> pd.DataFrame:
    """Return one row per architecture, the front first, then what else was verified, then the candidates.

    Returns:
        Columns ``key``, ``on_front``, ``stage`` (a value of `STAGES`), ``source`` (measured or predicted), the metrics
        (objectives first), ``off.METRIC`` where a metric was predicted (the standard deviation of its prediction), ``failure``,
        then the picks of the architecture.
    """
    objectives = tuple(objectives)
    on_front = {row.arch.key for row in front(verified(evaluations), objectives)}
    rows: dict[str, dict[str, object]] = {}
    picks: set[str] = set()
    metrics: set[str] = set()
    spreads: set[str] = set()
    for row in sorted((row for row in evaluations if row.stage in STAGES), key=lambda row: ORDER.index(row.stage)):
        if row.arch.key in rows:
            continue
        key = row.arch.key
        chosen = {f"arch.{name}": option for name, option in row.arch.items()}
        source = row.source if not row.failure else Source.MEASURED
        facts = {
            "key": key,
            "on_front": key in on_front,
            "stage": STAGES[row.stage],
            "source": "" if row.failure else source.value,
        }
        predicted = row.source is Source.PREDICTED
        off = {f"off.{name}": value for name, value in row.std.items()} if predicted else {}
        rows[key] = {**facts, **row.metrics, **off, "failure": row.failure, **chosen}
        spreads |= set(off)
        picks |= set(chosen)
        metrics |= set(row.metrics)
    names = units.order(metrics, tuple(objective.metric for objective in objectives))
    columns = ["key", "on_front", "stage", "source", *names, *sorted(spreads), "failure", *sorted(picks)]
    frame = pd.DataFrame(list(rows.values()), columns=columns)
    return frame.sort_values("on_front", ascending=False, kind="stable").reset_index(drop=True)


def csv(frame: pd.DataFrame) -> str:
    """Return the frame as the text of a CSV file, numbers in full."""
    text: str = frame.to_csv(index=False)
    return text
