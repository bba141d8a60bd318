"""How well a predictor does on subnets it was not fitted on: truth against prediction, with a band of ±10 %."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from plotly import graph_objects as go

from dashboard import palette, units
from nas.core import PredictorReport, Stage, StageRecord

BAND = 0.10
UNKNOWN = "Latency of candidates is predicted; how far it is off was not measured."


def info(report: PredictorReport) -> pd.DataFrame:
    """Return one row per held-out subnet: ``truth``, ``predicted``, ``error`` (relative), ``inside`` the band."""
    truth, predicted = np.array(report.truth, dtype=float), np.array(report.predicted, dtype=float)
    error = (predicted - truth) / truth
    return pd.DataFrame({"truth": truth, "predicted": predicted, "error": error, "inside": np.abs(error) <= BAND})


def draw(frame: pd.DataFrame, metric: str) -> go.Figure:
    """Return the scatter of prediction over truth with the diagonal and the band."""
    unit = units.kind(metric).unit
    both = frame[["truth", "predicted"]].to_numpy()
    low, high = (float(both.min()), float(both.max())) if len(frame) else (0.0, 1.0)
    low, high = low - 0.05 * abs(low), high + 0.05 * abs(high)
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


def trust(reports: Sequence[PredictorReport], targets: Collection[str]) -> str:
    """Return how far predictions are off, a sentence per predictor of one of `targets`; an empty string where there is none."""
    sentences = []
    for report in reports:
        if report.target not in targets or "mape" not in report.quality:
            continue
        inside = f", {100 * report.quality['within_10']:.0f} % within 10 %" if "within_10" in report.quality else ""
        sentences.append(
            f"{units.label(report.target)} of candidates is predicted, off by {100 * report.quality['mape']:.1f} % on average"
            f"{inside}, measured on {report.held_out} subnets that the predictor never saw."
        )
    return " ".join(sentences)


def off(reports: Sequence[PredictorReport]) -> dict[str, float]:
    """Return each predicted metric's mean relative error on held-out subnets, as a share."""
    return {report.target: report.quality["mape"] for report in reports if "mape" in report.quality}


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


def screening(stages: Mapping[Stage, StageRecord]) -> pd.DataFrame:
    """Return how well a part of the images stood for all of them: one row per task, none where nothing was screened."""
    found = stages[Stage.SEARCH].result.get("screening", {}) if Stage.SEARCH in stages else {}
    rows = [
        {"Metric": units.label(metric), "Kendall τ": values["kendall_tau"], "Off by (%)": 100 * values["mape"]}
        for metric, values in found.get("agreement", {}).items()
    ]
    return pd.DataFrame(rows, columns=["Metric", "Kendall τ", "Off by (%)"])
