"""The pieces of a drawing of a network: boxes to scale, links, words."""

from __future__ import annotations

from collections.abc import Sequence

from plotly import graph_objects as go

from dashboard import palette


def box(figure: go.Figure, x: float, y: float, width: float, tall: float, colour: str | None, ratio: float) -> None:
    """Outline what could be, from `x` to the right and around `y`, and fill the share `ratio` of its height with `colour`."""
    outline = {"color": "rgba(128,138,150,0.5)", "width": 1, "dash": "dot" if colour or ratio < 1 else "solid"}
    figure.add_shape(
        type="path", path=_rounded(x, y, width, tall), line=outline, fillcolor="rgba(128,138,150,0.06)", layer="below"
    )
    if colour:
        figure.add_shape(
            type="path",
            path=_rounded(x, y, width, tall * ratio),
            line={"width": 0},
            fillcolor=colour,
            opacity=0.88,
            layer="below",
        )


def _rounded(x: float, y: float, width: float, tall: float) -> str:
    r = min(0.09, width / 4, tall / 4)
    left, right, low, high = x, x + width, y - tall / 2, y + tall / 2
    corners = (  # end of each edge, the corner, start of the next edge
        ((right - r, low), (right, low), (right, low + r)),
        ((right, high - r), (right, high), (right - r, high)),
        ((left + r, high), (left, high), (left, high - r)),
        ((left, low + r), (left, low), (left + r, low)),
    )
    turns = " ".join(f"L {a[0]},{a[1]} Q {b[0]},{b[1]} {c[0]},{c[1]}" for a, b, c in corners)
    return f"M {left + r},{low} {turns} Z"


def link(figure: go.Figure, x0: float, y0: float, x1: float, y1: float) -> None:
    """Draw a curve from the right edge of one part to the left edge of the next."""
    a, b, middle = x0 + 0.06, x1 - 0.06, (x0 + x1) / 2
    path = f"M {a},{y0} C {middle},{y0} {middle},{y1} {b},{y1}"
    figure.add_shape(type="path", path=path, line={"color": "rgba(128,138,150,0.7)", "width": 1.6}, layer="below")


def text(figure: go.Figure, x: float, y: float, words: str, anchor: str = "center") -> None:
    """Write `words` (HTML) at a place."""
    figure.add_annotation(x=x, y=y, text=words, showarrow=False, xanchor=anchor, align=anchor, font={"size": 13})


def hover(figure: go.Figure, places: Sequence[tuple[float, float, str]]) -> None:
    """Show a text at each place (x, y) when a reader points at it."""
    figure.add_trace(
        go.Scatter(
            x=[each[0] for each in places],
            y=[each[1] for each in places],
            mode="markers",
            marker={"size": 34, "opacity": 0},
            hovertext=[each[2] for each in places],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )


def frame(figure: go.Figure, right: float, half: float, height: int) -> go.Figure:
    """Give the drawing its look, from 0 to `right` and from -`half` to `half`, and return it."""
    palette.style(figure, height=height, legend=False)
    figure.update_xaxes(visible=False, range=[-0.1, right], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-half, half], fixedrange=True)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 4, "b": 4})
    return figure
