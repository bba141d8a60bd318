"""Curves of training: losses, and the validation errors of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from dashboard import palette, units

POINTS = 400  # of one curve at most: more cannot be told apart on a screen


def info(curves: Mapping[str, Sequence[tuple[int, float]]]) -> pd.DataFrame:
    """Return one row per point: ``curve``, ``panel``, ``series``, ``step``, ``value``.

    ``loss.TASK`` goes to the panel ``loss``; ``val.SUBNET.METRIC.TASK`` to the panel ``METRIC.TASK`` under the series SUBNET;
    ``sharing_cost.STRENGTH`` (of a differentiable search, over its epochs) to the panel ``sharing_cost``; any other curve to a
    panel of its own. Curves of more than `POINTS` points are averaged in equal bins.
    """
    rows: list[dict[str, object]] = []
    for name in sorted(curves):
        panel, series = place(name)
        points = np.array(curves[name], dtype=float).reshape(-1, 2)
        if len(points) > POINTS:
            points = np.array([part.mean(axis=0) for part in np.array_split(points, POINTS)])
        rows += [
            {"curve": name, "panel": panel, "series": series, "step": step, "value": value} for step, value in points.tolist()
        ]
    return pd.DataFrame(rows, columns=["curve", "panel", "series", "step", "value"])


def place(name: str) -> tuple[str, str]:
    """Return the panel and the series that a curve belongs to."""
    parts = name.split(".")
    if parts[0] == "loss":
        return "loss", ".".join(parts[1:]) or "total"
    if parts[0] == "val" and len(parts) >= 3:
        return ".".join(parts[2:]), parts[1]
    if parts[0] == "sharing_cost" and len(parts) >= 2:
        return parts[0], f"strength {'.'.join(parts[1:])}"
    return name, name


def panels(frame: pd.DataFrame) -> list[str]:
    """Return the panels: the losses, then errors, then other metrics by name."""
    names = set(frame["panel"].unique())
    return sorted(names, key=lambda panel: (panel != "loss", not panel.startswith("error."), panel))


def draw(frame: pd.DataFrame, shown: Sequence[str]) -> go.Figure:
    """Return the panels `shown` side by side, at most three in a row; one colour per series."""
    columns = min(3, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    titles = ["" if panel == "loss" else units.axis_title(panel) for panel in shown]
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16 if rows > 1 else 0.1
    )
    names = sorted(frame[frame["panel"].isin(shown)]["series"].unique())
    for i, panel in enumerate(shown):
        part = frame[frame["panel"] == panel]
        tick, suffix = units.tick_format(panel)
        row, column = i // columns + 1, i % columns + 1
        for j, series in enumerate(names):
            line = part[part["series"] == series]
            if line.empty:
                continue
            figure.add_trace(
                go.Scatter(
                    x=line["step"].to_list(),
                    y=line["value"].to_list(),
                    name=series,
                    legendgroup=series,
                    showlegend=all(series not in set(frame[frame["panel"] == earlier]["series"]) for earlier in shown[:i]),
                    mode="lines+markers" if len(line) < 40 else "lines",
                    marker={"size": 5},
                    line={"color": palette.series(j + (panel == "loss")), "width": 2},
                    hovertemplate=f"{series} · step %{{x:,.0f}}<br><b>%{{y:.4g}}</b> {units.kind(panel).unit}<extra></extra>",
                ),
                row=row,
                col=column,
            )
        figure.update_xaxes(title="Step" if row == rows else None, row=row, col=column)
        figure.update_yaxes(tickformat=tick, ticksuffix=suffix, row=row, col=column)
    palette.style(figure, height=70 + 290 * rows)
    figure.update_annotations(font={"size": 13}, xanchor="left", align="left")
    for i, annotation in enumerate(figure.layout.annotations):
        axis = figure.layout["xaxis" if i == 0 else f"xaxis{i + 1}"]
        annotation.x = axis.domain[0]
    figure.update_layout(legend={"y": 1.0, "yref": "container", "yanchor": "top"}, margin={"t": 64})
    return figure
