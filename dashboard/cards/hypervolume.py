"""How much of the objectives' space a search has won, against the time that it took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from plotly import graph_objects as go

from dashboard import palette
from nas.core import Evaluation, Objective, hypervolume, pareto_mask, to_minimise

STAGES = ("search", "reused")
MOMENTS = 60  # of the curve at most: each is a hypervolume
MARGIN = 0.1  # of the range of values, from the worst to the reference point


def info(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> pd.DataFrame:
    """Return one row per moment: ``minutes`` since the first candidate, ``candidates`` so far, ``hypervolume``.

    The hypervolume is the share of the box from the best value of each objective to a tenth beyond the worst that candidates
    dominate. Candidates that failed, lack an objective or were made by a version that noted no time are left out.
    """
    rows = sorted(
        (row for row in evaluations if row.stage in STAGES and row.made is not None and not row.failure),
        key=lambda row: row.made.timestamp() if row.made else 0.0,
    )
    values = to_minimise(objectives, [row.metrics for row in rows])
    known = np.isfinite(values).all(axis=1)
    values = values[known]
    times = np.array([row.made.timestamp() for row in rows if row.made])[known]
    if len(values) < 2:
        return pd.DataFrame(columns=["minutes", "candidates", "hypervolume"])
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    scaled = (values - low) / np.where(span > 0, span, 1.0)
    reference = np.full(scaled.shape[1], 1.0 + MARGIN)
    counts = np.unique(np.linspace(1, len(scaled), min(MOMENTS, len(scaled))).round().astype(int))
    best, start, found = scaled[:0], 0, []
    for count in counts:
        best = np.concatenate([best, scaled[start:count]])
        best, start = best[pareto_mask(best)], count
        found.append(hypervolume(best, reference) / float(np.prod(reference)))
    minutes = (times[counts - 1] - times[0]) / 60
    return pd.DataFrame({"minutes": minutes, "candidates": counts, "hypervolume": found})


def draw(frame: pd.DataFrame) -> go.Figure:
    """Return the curve, which rises in steps."""
    line = {"color": palette.SERIES[0], "width": 2, "shape": "hv"}
    hover = "%{customdata} candidates in %{x:.1f} min<br>hypervolume %{y:.3f}<extra></extra>"
    curve = go.Scatter(x=frame["minutes"], y=frame["hypervolume"], customdata=frame["candidates"], mode="lines", line=line)
    figure = go.Figure(curve.update(hovertemplate=hover))
    palette.style(figure, height=280)
    figure.update_xaxes(title="minutes since the first candidate", rangemode="tozero")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return figure
