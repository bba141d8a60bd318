"""An architecture as a picture: the encoder's stages from left to right, one decoder per task, sizes to scale.

The names of the choices say what they are: ``resolution``, ``encoder.STAGE.width``, ``encoder.STAGE.depth``,
``decoder.TASK.width`` and ``decoder.TASK.depth``. Choices with other names are not drawn; a space without
encoder stages is shown as a table, and one whose encoder is a tree is drawn by `dashboard.cards.tree`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
from plotly import graph_objects as go

from dashboard import palette
from dashboard.cards import shapes, tree
from nas.core import ArchConfig

_NAME = re.compile(r"^(encoder|decoder)\.([^.]+)\.(width|depth)$")
_BLOCK, _GAP, _STAGE_GAP, _DECODER = 0.5, 0.1, 0.55, 1.7  # widths on the drawing
_TALL = 2.0  # height of a full-width stage
_BLOCKS = {"encoder": "stages", "decoder": "decoders"}  # what the network calls the parts, and ``precision.BLOCK`` with it
_COLUMNS = ["part", "name", "width", "depth", "max_width", "max_depth", "precision"]


def info(arch: ArchConfig, others: Sequence[ArchConfig] = ()) -> pd.DataFrame:
    """Return one row per part: ``part`` (input, encoder, decoder), ``name``, ``width``, ``depth``, their largest options and
    ``precision``, which is empty where none is picked.

    Args:
        arch: What to draw.
        others: Architectures of the same space, from which the largest width and depth of each part are read; a width of
            at most one is a ratio, whose largest is one.

    Returns:
        Empty where the space names no encoder stage; the columns of `tree.info` where its encoder is a tree.
    """
    if tree.branches(arch):
        return tree.info(arch, others)
    parts: dict[tuple[str, str], dict[str, float]] = {}
    for name, option in arch.items():
        match = _NAME.match(name)
        if match and isinstance(option, int | float):
            parts.setdefault((match[1], match[2]), {})[match[3]] = float(option)
    if not any(part == "encoder" for part, _ in parts):
        return pd.DataFrame(columns=_COLUMNS)
    largest: dict[str, float] = {}
    for each in (arch, *others):
        for name, option in each.items():
            if isinstance(option, int | float):
                largest[name] = max(largest.get(name, 0.0), float(option))
    rows: list[dict[str, object]] = []
    if "resolution" in arch:
        rows.append(dict(zip(_COLUMNS, ("input", str(arch["resolution"]), 1.0, 1, 1.0, 1, ""), strict=True)))
    for part, name in sorted(parts, key=lambda each: (each[0] != "encoder", _natural(each[1]))):
        picks = parts[part, name]
        width, depth = picks.get("width", 1.0), int(picks.get("depth", 1))
        full = max(1.0, largest.get(f"{part}.{name}.width", 1.0))
        deepest = int(largest.get(f"{part}.{name}.depth", 1))
        precision = str(arch.get(f"precision.{_BLOCKS[part]}.{name}", ""))
        rows.append(dict(zip(_COLUMNS, (part, name, width, depth, full, deepest, precision), strict=True)))
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    """Return the drawing of what `info` gave: solid is what the subnet keeps, outlined is what the supernet has."""
    if "layer" in frame:
        return tree.draw(frame)
    figure = go.Figure()
    stages = [row for _, row in frame[frame["part"] == "encoder"].iterrows()]
    decoders = [row for _, row in frame[frame["part"] == "decoder"].iterrows()]
    entry = frame[frame["part"] == "input"]
    x = 0.0
    shapes.box(figure, x, 0.0, 0.75, _TALL, None, 1.0)
    title = f"input<br>{_resolution(entry.iloc[0]['name'])}" if len(entry) else "input"
    shapes.text(figure, x + 0.375, 0.0, title)
    x += 0.75
    hovers: list[tuple[float, float, str]] = []
    for stage in stages:
        shapes.link(figure, x, 0.0, x + _STAGE_GAP, 0.0)
        x += _STAGE_GAP
        start = x
        for block in range(max(stage["max_depth"], stage["depth"])):
            kept = block < stage["depth"]
            shapes.box(figure, x, 0.0, _BLOCK, _TALL, palette.MEASURED if kept else None, stage["width"] / stage["max_width"])
            x += _BLOCK + _GAP
        x -= _GAP
        middle = (start + x) / 2
        blocks = f"{stage['depth']} block{'s' if stage['depth'] != 1 else ''}"
        shapes.text(
            figure, middle, -_TALL / 2 - 0.34, f"<b>{_ratio(stage)}</b>{_precision(stage)}<br>stage {stage['name']} · {blocks}"
        )
        hovers.append((middle, 0.0, f"encoder stage {stage['name']}<br>width <b>{_ratio(stage)}</b><br>{blocks}"))
    count = len(decoders)
    pitch = 1.15 if count > 2 else 1.5
    for i, decoder in enumerate(decoders):
        y = ((count - 1) / 2 - i) * pitch
        shapes.link(figure, x, 0.0, x + 1.1, y)
        left = x + 1.1
        shapes.box(figure, left, y, _DECODER, 0.8, palette.series(i + 1), decoder["width"] / decoder["max_width"])
        shapes.text(
            figure, left + _DECODER + 0.15, y, f"<b>{_ratio(decoder)}</b>{_precision(decoder)}<br>{decoder['name']}", "left"
        )
        hovers.append((left + _DECODER / 2, y, f"decoder of {decoder['name']}<br>width <b>{_ratio(decoder)}</b>"))
    shapes.hover(figure, hovers)
    half = max(_TALL / 2 + 0.75, (count - 1) / 2 * pitch + 0.6)
    return shapes.frame(figure, x + 1.1 + _DECODER + 1.3, half, int(110 * half * 1.15) + 40)


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def _resolution(name: str) -> str:
    try:
        value = float(name)
    except ValueError:
        return name
    return f"{value:.0%}" if value <= 1 else f"{value:g} px"


def _precision(row: pd.Series[Any]) -> str:
    return f" · {row['precision']}" if row["precision"] else ""


def _ratio(row: pd.Series[Any]) -> str:
    return f"×{row['width']:g}" if row["max_width"] <= 1 else f"{row['width']:g}"
