"""One look for every chart: the colours of Okabe and Ito (2008), which the colour-blind tell apart, on light and dark."""

from __future__ import annotations

from plotly import graph_objects as go

MEASURED = "#0072B2"  # blue
RECOMMENDED = "#D55E00"  # vermilion
PICKED = "#009E73"  # green
FAINT = "#8A94A0"  # grey that is read on light and on dark
GRID = "rgba(128,138,150,0.18)"
GRID_3D = "rgb(176,182,189)"  # WebGL draws no translucent lines
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A94A0")
SCALE = [[0.0, "#46327E"], [0.33, "#2D708E"], [0.66, "#29AF7F"], [1.0, "#A8DB34"]]  # the middle of viridis

CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    "scrollZoom": False,
}


def series(index: int) -> str:
    """Return the colour of the `index`-th series."""
    return SERIES[index % len(SERIES)]


def style(figure: go.Figure, height: int, legend: bool = True) -> go.Figure:
    """Give `figure` the common layout and return it."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 40 if legend else 16, "b": 8},
        font={"size": 13},
        showlegend=legend,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"size": 12},
            "title": "",
        },
        hoverlabel={"align": "left", "font": {"size": 13}},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": FAINT, "activecolor": MEASURED},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, ticks="outside", tickcolor=GRID, title_standoff=12, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, ticks="outside", tickcolor=GRID, title_standoff=12, automargin=True)
    return figure
