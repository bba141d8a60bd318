"""How well a predictor does on subnets it was not fitted on: truth against prediction, with a band of ±10 %."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly import graph_objects as go

from dashboard import palette, units
from nas.core import PredictorReport

BAND = 0.10


def info(report: PredictorReport) -> pd.DataFrame:
    """Return one row per held-out subnet: ``truth``, ``predicted``, ``error`` (relative), ``inside`` the band."""
    truth, predicted = np.array(report.truth, dtype=float), np.array(report.predicted, dtype=float)
    error = (predicted - truth) / truth
    return pd.DataFrame({"truth": truth, "predicted": predicted, "error": error, "inside": np.abs(error) <= BAND})


def draw(frame: pd.DataFrame, metric: str) -> go.Figure:
    """Return the scatter of prediction over truth with the diagonal and the band."""
    unit = units.kind(metric).unit
    both = frame[["truth", "predicted"]].to_numpy()
    low, high = (float(both.min()) * 0.95, float(both.max()) * 1.05) if len(frame) else (0.0, 1.0)
    ends = np.array([low, high])
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[low, high, high, low],
            y=[*(ends * (1 + BAND)), *(ends[::-1] * (1 - BAND))],
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor="rgba(0,114,178,0.12)",
            name="±10 %",
            hoverinfo="skip",
        )
    )
    line = {"color": palette.FAINT, "width": 1.2, "dash": "dot"}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, name="Exact", hoverinfo="skip"))
    for inside, name, symbol, colour in (
        (True, "Within 10 %", "circle", palette.MEASURED),
        (False, "Beyond 10 %", "x", palette.RECOMMENDED),
    ):
        part = frame[frame["inside"] == inside]
        if len(part):
            text = [
                f"measured <b>{units.number(metric, truth)}</b><br>"
                f"predicted <b>{units.number(metric, predicted)}</b><br>{100 * error:+.1f} %"
                for truth, predicted, error in zip(part["truth"], part["predicted"], part["error"], strict=True)
            ]
            figure.add_trace(
                go.Scatter(
                    x=part["truth"].to_list(),
                    y=part["predicted"].to_list(),
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 9, "color": colour, "opacity": 0.85},
                    hovertext=text,
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    palette.style(figure, height=430)
    tick, suffix = units.tick_format(metric)
    ends_of = f" ({unit})" if unit and unit != "B" else ""
    figure.update_xaxes(title=f"Measured{ends_of}", range=[low, high], tickformat=tick, ticksuffix=suffix)
    figure.update_yaxes(title=f"Predicted{ends_of}", range=[low, high], tickformat=tick, ticksuffix=suffix)
    return figure


def verdict(report: PredictorReport) -> list[tuple[str, str, str]]:
    """Return name, number and meaning of each quality that the report holds."""
    known = (
        ("mape", "MAPE", "{:.1f} %", 100, "Mean absolute error over the truth"),
        ("within_10", "Within ±10 %", "{:.0f} %", 100, "Share of held-out subnets predicted within a tenth of the truth"),
        ("kendall_tau", "Kendall τ", "{:.3f}", 1, "How well the order is predicted: 1 is perfect, 0 is chance"),
        (
            "coverage_90",
            "Coverage of 90 %",
            "{:.0f} %",
            100,
            "Share of truths inside the predicted 90 % interval; 90 % is calibrated",
        ),
    )
    found = report.quality
    return [(title, form.format(found[name] * scale), text) for name, title, form, scale, text in known if name in found]
