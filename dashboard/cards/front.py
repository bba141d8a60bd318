"""The Pareto front: what was verified, what is recommended, and the candidates behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from plotly import graph_objects as go

from dashboard import palette, units
from nas.core import Evaluation, Objective, Source, front, pareto_mask
from nas.core.refinement import VERIFIED_STAGES, has_own_weights, verified

GROUPS = {  # in drawing order: group to (legend, marker size, opacity)
    "predicted": ("Candidates, latency predicted", 7, 0.4),
    "measured": ("Candidates, measured", 7, 0.4),
    "verified": ("Verified, off the front", 8, 0.55),
    "front": ("Verified front", 11, 1.0),
    "refined": ("Refined, on the front", 12, 1.0),
}
ON_FRONT = ("front", "refined")


@dataclass(frozen=True, slots=True)
class View:
    """What the reader chose to see.

    Attributes:
        x: Metric of the horizontal axis.
        y: Metric of the vertical axis.
        z: Metric of the third axis; None draws in two dimensions.
        colour: Metric that colours the points; None gives one colour.
        recommended: Key of the point to ring.
        picked: Key of the point the reader clicked.
    """

    x: str
    y: str
    z: str | None = None
    colour: str | None = None
    recommended: str | None = None
    picked: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """The metrics of the axes."""
        return (self.x, self.y) if self.z is None else (self.x, self.y, self.z)


def info(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> pd.DataFrame:
    """Return one row per architecture: ``key``, ``group`` and a column per metric.

    A verified architecture stands for itself, so its search evaluation is left out; failures are too. The front is that of
    the verified, measured evaluations within the limits of `objectives`.

    Returns:
        Groups are ``front``, ``refined`` (on the front too, with weights of its own), ``verified``, ``measured`` and
        ``predicted`` (candidates by the source of their numbers).
    """
    good = [row for row in evaluations if not row.failure and row.stage in ("search", "reused", *VERIFIED_STAGES)]
    full = [row for row in verified(good) if row.source is Source.MEASURED]
    on_front = {row.arch.key for row in front(full, objectives)} if objectives else set()
    seen = {row.arch.key for row in full}
    kinds = {row.arch.key: "refined" if has_own_weights(row.arch) else "front" for row in full if row.arch.key in on_front}
    rows = [{"key": row.arch.key, "group": kinds.get(row.arch.key, "verified"), **row.metrics} for row in full]
    for row in good:
        if row.stage not in VERIFIED_STAGES and row.arch.key not in seen:
            seen.add(row.arch.key)
            rows.append({"key": row.arch.key, "group": row.source.value, **row.metrics})
    return pd.DataFrame(rows, columns=None if rows else ["key", "group"])


def staircase(frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return the points of `frame` that no other one dominates in `x` and `y`, from the best `x` on."""
    signs = np.array([-1.0 if units.kind(metric).higher_is_better else 1.0 for metric in (x, y)])
    values = frame[[x, y]].to_numpy(dtype=float) * signs
    kept = frame[pareto_mask(values)]
    return kept.sort_values(x, ascending=signs[0] > 0)


def draw(
    frame: pd.DataFrame, view: View, limits: Sequence[Objective] = (), off: Mapping[str, float] | None = None
) -> go.Figure:
    """Return the chart of what `info` gave: scatter in two or three dimensions, the limits as dashed lines.

    Every marker carries its key in ``customdata``.

    Args:
        frame: Of `info`.
        view: What the reader chose.
        limits: Objectives whose limits are drawn.
        off: Predicted metric to the mean relative error of its predictor, written beside predicted numbers.
    """
    shown = frame.dropna(subset=[axis for axis in view.axes if axis in frame]) if len(frame) else frame
    figure = go.Figure()
    if view.z is None:
        _limits(figure, view, limits)
        _line(figure, shown, view)
    scale = _scale(shown, view)
    faint = shown["group"].isin([*ON_FRONT, "verified"]).any()  # candidates step back once there is something before them
    for group, (title, size, opacity) in GROUPS.items():
        points = shown[shown["group"] == group]
        opacity = opacity if faint else 0.85
        if len(points):
            marker = _marker(points, view, group, size, opacity, scale)
            _scatter(figure, points, view, title, marker, off or {})
    _rings(figure, shown, view)
    palette.style(figure, height=560)
    figure.update_layout(uirevision="|".join(view.axes))  # a live update keeps the reader's zoom and camera
    if view.z is None:
        for update, metric in ((figure.update_xaxes, view.x), (figure.update_yaxes, view.y)):
            tick, suffix = units.tick_format(metric)
            update(title=units.axis_title(metric), tickformat=tick, ticksuffix=suffix)
    else:
        axes = {}
        for name, metric in zip(("xaxis", "yaxis", "zaxis"), view.axes, strict=True):
            tick, suffix = units.tick_format(metric)
            axes[name] = {
                "title": {"text": units.axis_title(metric)},
                "tickformat": tick,
                "ticksuffix": suffix,
                "gridcolor": palette.GRID_3D,
                "linecolor": palette.GRID_3D,
                "showbackground": False,
                "showspikes": False,
            }
        figure.update_layout(scene={**axes, "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}}, "aspectmode": "cube"})
        figure.update_layout(height=620)
    return figure


def _scale(frame: pd.DataFrame, view: View) -> tuple[float, float] | None:
    if view.colour is None or view.colour not in frame or frame[view.colour].isna().all():
        return None
    return float(frame[view.colour].min()), float(frame[view.colour].max())


def _marker(
    points: pd.DataFrame, view: View, group: str, size: int, opacity: float, scale: tuple[float, float] | None
) -> dict[str, object]:
    symbol = {"predicted": "diamond-open", "refined": "diamond"}.get(group, "circle")
    flat = palette.MEASURED if group in (*ON_FRONT, "verified") else palette.FAINT
    size = max(3, size - 4) if view.z else size
    marker: dict[str, object] = {"symbol": symbol, "size": size, "opacity": opacity, "color": flat}
    if group in ON_FRONT:
        marker["line"] = {"width": 1.2, "color": "rgba(255,255,255,0.85)"}
    if scale is not None and view.colour is not None:
        tick, suffix = units.tick_format(view.colour)
        bar = {"title": {"text": units.axis_title(view.colour), "side": "right"}, "thickness": 10, "outlinewidth": 0}
        marker |= {
            "color": points[view.colour].to_list(),
            "colorscale": palette.SCALE,
            "cmin": scale[0],
            "cmax": scale[1],
            "showscale": group == "front",
            "colorbar": {**bar, "tickformat": tick, "ticksuffix": suffix},
        }
    return marker


def _scatter(
    figure: go.Figure, points: pd.DataFrame, view: View, title: str, marker: dict[str, object], off: Mapping[str, float]
) -> None:
    common = {
        "x": points[view.x].to_list(),
        "y": points[view.y].to_list(),
        "mode": "markers",
        "name": title,
        "marker": marker,
        "customdata": points[["key"]].to_numpy(),
        "hovertext": [hover(row, off) for _, row in points.iterrows()],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    if view.z is None:
        figure.add_trace(go.Scatter(**common))
        return
    figure.add_trace(go.Scatter3d(z=points[view.z].to_list(), **common))


def _line(figure: go.Figure, frame: pd.DataFrame, view: View) -> None:
    steps = (
        staircase(frame[frame["group"].isin(ON_FRONT)], view.x, view.y) if view.x in frame and view.y in frame else frame[:0]
    )
    if len(steps) > 1:
        line = {"color": palette.MEASURED, "width": 1.8, "shape": "hv"}
        figure.add_trace(
            go.Scatter(
                x=steps[view.x].to_list(),
                y=steps[view.y].to_list(),
                mode="lines",
                line=line,
                opacity=0.55,
                name="Front of these two",
                hoverinfo="skip",
            )
        )


def _limits(figure: go.Figure, view: View, limits: Sequence[Objective]) -> None:
    look = {"line_dash": "dot", "line_width": 1.4, "line_color": palette.RECOMMENDED, "opacity": 0.7}
    for limit in limits:
        if limit.limit is not None and limit.metric == view.x:
            figure.add_vline(x=limit.limit, **look)
        elif limit.limit is not None and limit.metric == view.y:
            figure.add_hline(y=limit.limit, **look)


def _rings(figure: go.Figure, frame: pd.DataFrame, view: View) -> None:
    rings = ((view.picked, "Picked", palette.PICKED, 17), (view.recommended, "Recommended", palette.RECOMMENDED, 22))
    for key, name, colour, size in rings:
        row = frame[frame["key"] == key]
        if key is None or not len(row):
            continue
        x, y = row[view.x].to_list(), row[view.y].to_list()
        common = {"x": x, "y": y, "mode": "markers", "name": name, "customdata": [[key]], "hoverinfo": "skip"}
        symbol = {"symbol": "circle-open", "color": colour}
        if view.z is not None:
            figure.add_trace(go.Scatter3d(**common, z=row[view.z].to_list(), marker={**symbol, "size": size - 8}))
            continue
        marker = {**symbol, "size": size, "line": {"width": 2.6}}
        figure.add_trace(go.Scatter(**common, marker=marker, showlegend=name == "Recommended"))
        figure.add_annotation(
            x=x[0],
            y=y[0],
            text=f"<b>{key[:8]}</b>",
            font={"color": "#FFFFFF", "size": 12},
            bgcolor=colour,
            borderpad=3,
            ax=34,
            ay=-34 if name == "Recommended" else 34,
            arrowcolor=colour,
            arrowwidth=1.4,
            arrowhead=0,
            standoff=size / 2,
        )


def error_of(metric: str, off: Mapping[str, float]) -> str:
    """Return what stands after a predicted number: how far its predictor is off on average."""
    return f" ± {100 * off[metric]:.1f} %" if metric in off else ""


def hover(row: pd.Series[Any], off: Mapping[str, float] | None = None) -> str:
    """Return the hover text of a row of the frame: its key, where its numbers come from, and each with its unit.

    Args:
        row: Of `info`.
        off: Predicted metric to the mean relative error of its predictor.
    """
    errors = off if off and row["group"] == "predicted" else {}
    titles = {
        "front": "verified · measured · on the front",
        "refined": "refined · measured · on the front",
        "verified": "verified · measured",
        "measured": "candidate · measured",
        "predicted": "candidate · latency predicted",
    }
    metrics = [str(name) for name in row.index if name not in ("key", "group")]
    lines = [
        f"{units.label(name)}&nbsp; <b>{units.number(name, float(row[name]))}</b>" + error_of(name, errors)
        for name in units.order(set(metrics), ())
        if row[name] == row[name]
    ]
    return "<br>".join([f"<b>{row['key']}</b>", f"<i>{titles[str(row['group'])]}</i>", *lines])
