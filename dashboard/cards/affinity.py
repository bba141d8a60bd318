"""How alike a job's tasks are: a heat map per layer and measure, and the trees that follow."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from dashboard import palette, units
from nas.core.affinity import Affinity

DIVERGING = [[0.0, palette.RECOMMENDED], [0.5, "#F2F2F2"], [1.0, palette.MEASURED]]
MEAN = "mean"  # of all layers
TITLES = {  # measure: title, meaning
    "rsa": (
        "Representations (RSA)",
        "1 where two tasks find the same images alike. Each row is scaled by the task that differs the most, which is at 0: "
        "of two tasks both are.",
    ),
    "closeness": (
        "Closeness",
        "The same similarities on a scale that all layers share; trees are grown from it.",
    ),
    "covariance": ("Covariance", "1 where the representations of two tasks vary along the same directions."),
    "gradients": (
        "Gradients",
        "Cosine of the tasks' gradients on the shared weights: below 0 they pull apart. Mean over batches of training images.",
    ),
}
ORIGINS = {
    "twins": "Representations are those of the single-task twins",
    "branches": "Representations are those of each task's own branches of the supernet",
    "gradients": "Only gradients are known: without twins (training.twins in the job file), and in a space that does not "
    "branch, no task has representations of its own",
}


def origin(found: Affinity) -> str:
    """Return a sentence on what was compared."""
    images = f", of {found.images} training images" if found.images else ""
    return f"{ORIGINS[found.origin]}{images}."


def info(found: Affinity) -> pd.DataFrame:
    """Return one row per ``measure``, ``layer`` (its number, and ``mean``), ``task`` and ``other`` with their ``value``.

    ``spread`` is its standard deviation, NaN where none is known.
    """
    rows = []
    for measure, values in found.measures().items():
        layers = {str(layer): matrix for layer, matrix in enumerate(values)} | {MEAN: values.mean(axis=0)}
        for layer, matrix in layers.items():
            spread = found.spread[int(layer)] if measure == "gradients" and layer != MEAN else np.full_like(matrix, np.nan)
            for i, task in enumerate(found.tasks):
                for j, other in enumerate(found.tasks):
                    rows.append((measure, layer, task, other, float(matrix[i, j]), float(spread[i, j])))
    return pd.DataFrame(rows, columns=["measure", "layer", "task", "other", "value", "spread"])


def draw(frame: pd.DataFrame, measure: str) -> go.Figure:
    """Return a measure's heat maps, one per layer and their mean."""
    own = frame[frame["measure"] == measure]
    layers, tasks = own["layer"].unique().tolist(), own["task"].unique().tolist()
    titles = [layer if layer == MEAN else f"layer {layer}" for layer in layers]
    figure = make_subplots(1, len(layers), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.02)
    signed = measure == "gradients"
    for column, layer in enumerate(layers, 1):
        part = own[own["layer"] == layer].pivot(index="task", columns="other", values="value").loc[tasks, tasks]
        spread = own[own["layer"] == layer].pivot(index="task", columns="other", values="spread").loc[tasks, tasks].to_numpy()
        values = part.to_numpy()
        words = [
            [f"{_number(value)}" + (f" ± {off:.2f}" if np.isfinite(off) else "") for value, off in zip(*row, strict=True)]
            for row in zip(values, spread, strict=True)
        ]
        figure.add_trace(
            go.Heatmap(
                z=values,
                x=tasks,
                y=tasks,
                zmin=-1 if signed else 0,
                zmax=1,
                colorscale=DIVERGING if signed else palette.SCALE,
                showscale=False,
                xgap=2,
                ygap=2,
                text=[[_number(value) for value in row] for row in values],
                texttemplate="%{text}",
                textfont={"size": 13},
                customdata=words,
                hovertemplate="%{y}, %{x}: <b>%{customdata}</b><extra>" + titles[column - 1] + "</extra>",
            ),
            row=1,
            col=column,
        )
    palette.style(figure, height=90 + 46 * len(tasks), legend=False)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 28, "b": 8})
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(showgrid=False, ticks="", fixedrange=True)
    figure.update_yaxes(showgrid=False, ticks="", fixedrange=True, autorange="reversed")
    return figure


def trees(found: Affinity) -> pd.DataFrame:
    """Return one row per tree: where the tasks part, what sharing costs them, what it saves, and how wide branches need be."""
    rows = [
        {
            "Tree": tree.name,
            "Dissimilarity": round(tree.dissimilarity, 3),
            "MACs, full widths": _macs(tree.full_macs),
            "MACs, enough width": _macs(tree.macs),
            "Enough width": " › ".join(" ".join(f"{ratio:.2f}" for ratio in layer.values()) for layer in tree.widths),
        }
        for tree in found.trees
    ]
    return pd.DataFrame(rows)


def _macs(value: float | None) -> str:
    return "" if value is None else units.number("macs", value)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "?"
