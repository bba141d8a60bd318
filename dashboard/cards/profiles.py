"""What was measured on a device: the latency of sampled subnets over what was counted of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from plotly import graph_objects as go

from dashboard import palette, units
from nas.core import Profile


def info(profiles: Sequence[Profile], device: str) -> pd.DataFrame:
    """Return one row per measured subnet of `device`: ``key``, ``ms``, ``spread_ms``, ``noisy`` and what was counted."""
    rows = [
        {
            "key": each.arch.key,
            "ms": each.latency.ms,
            "spread_ms": each.latency.spread * each.latency.ms,
            "noisy": each.latency.noisy,
            "wall_p50_ms": each.latency.wall_p50_ms,
            "wall_p95_ms": each.latency.wall_p95_ms,
            "runs": each.latency.runs,
            **each.metrics,
        }
        for each in profiles
        if each.device == device
    ]
    return pd.DataFrame(rows, columns=None if rows else ["key", "ms", "spread_ms", "noisy"])


def draw(frame: pd.DataFrame, cost: str) -> go.Figure:
    """Return latency over the counted metric `cost`, with the spread as error bars; noisy ones are crosses."""
    figure = go.Figure()
    for noisy, name, symbol, colour in (
        (False, "Measured", "circle", palette.MEASURED),
        (True, "Noisy, measured again", "x", palette.RECOMMENDED),
    ):
        part = frame[frame["noisy"] == noisy]
        if len(part):
            text = [
                f"<b>{row['key']}</b><br>{units.label(cost)} <b>{units.number(cost, row[cost])}</b><br>"
                f"latency <b>{row['ms']:.2f} ms</b> ± {row['spread_ms']:.2f}<br>"
                f"wall p50 {row['wall_p50_ms']:.2f}, p95 {row['wall_p95_ms']:.2f} ms"
                for row in part.to_dict("records")
            ]
            figure.add_trace(
                go.Scatter(
                    x=part[cost].to_list(),
                    y=part["ms"].to_list(),
                    error_y={"array": part["spread_ms"].to_list(), "thickness": 1, "width": 0, "color": palette.FAINT},
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 8, "color": colour, "opacity": 0.85},
                    hovertext=text,
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    palette.style(figure, height=430)
    tick, suffix = units.tick_format(cost)
    figure.update_xaxes(title=units.axis_title(cost), tickformat=tick, ticksuffix=suffix, rangemode="tozero")
    figure.update_yaxes(title="Latency (ms)", rangemode="tozero")
    return figure
