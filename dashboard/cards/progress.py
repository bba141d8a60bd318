"""How far a job is: one bar per stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

import pandas as pd

from dashboard import clock
from nas.core import Stage, StageRecord, StageState


def info(stages: Mapping[Stage, StageRecord], now: datetime, live: bool = True) -> pd.DataFrame:
    """Return one row per stage: ``stage``, ``state``, ``share`` in [0, 1], ``count``, ``eta_s``, ``took_s``, ``note``.

    Seconds are NaN where they are not known. A running stage of a job that is not `live` has state ``stopped``.
    """
    rows = []
    for stage, record in stages.items():
        share = 1.0 if record.state is StageState.DONE else (min(1.0, record.done / record.total) if record.total else 0.0)
        count = f"{record.done:,} / {record.total:,} {record.unit}".strip() if record.total else ""
        left = clock.eta(record, now)
        took = (record.ended - record.started).total_seconds() if record.started and record.ended else float("nan")
        eta = float("nan") if left is None else left
        stopped = record.state is StageState.RUNNING and not live
        if stopped:
            eta = float("nan")
        row = {"stage": stage.value, "state": "stopped" if stopped else record.state.value, "share": share, "count": count}
        rows.append({**row, "eta_s": eta, "took_s": took, "note": record.note})
    return pd.DataFrame(rows, columns=["stage", "state", "share", "count", "eta_s", "took_s", "note"])


def draw(frame: pd.DataFrame) -> str:
    """Return the strip of bars as HTML (its style is in `dashboard.shell`)."""
    return f'<div class="nas-stages">{"".join(_bar(row) for _, row in frame.iterrows())}</div>'


def _bar(row: pd.Series[Any]) -> str:
    state, share = str(row["state"]), float(str(row["share"]))
    eta, took = float(str(row["eta_s"])), float(str(row["took_s"]))
    below = {"done": clock.span(took) if took == took else "done", "failed": "failed"}.get(state, "waiting")
    if state == "stopped":
        below = f"stopped at {share:.0%}"
    if state == "running":
        below = f"{share:.0%}" + (f" · {clock.span(eta)} left" if eta == eta else "")
    tip = escape(" · ".join(str(part) for part in (row["count"], row["note"]) if part), quote=True)
    return (
        f'<div class="nas-stage {escape(state)}" title="{tip}"><div class="nas-stage-name">{escape(str(row["stage"]))}</div>'
        f'<div class="nas-track"><div class="nas-fill" style="width:{share:.1%}"></div></div>'
        f'<div class="nas-stage-note">{escape(below)}</div></div>'
    )
