"""A network whose tasks part as a picture: a box per branch, layers from left to right, one decoder per task at the end.

The names of the choices say what it is: ``encoder.LAYER.TASK.width`` is the branch that TASK leads, ``branch.TASK.layers`` how
many layers a task shares and ``branch.TASK.with`` with which earlier one (the first, where nothing is said), ``stem.width`` and
``decoder.TASK.width`` the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
from plotly import graph_objects as go

from dashboard import palette
from dashboard.cards import shapes
from nas.core import ArchConfig
from nas.core.affinity import Tree
from nas.core.branching import partition

COLUMNS = ["part", "name", "layer", "tasks", "from", "width", "max_width", "precision"]
_BRANCH = re.compile(r"^encoder\.(\d+)\.([^.]+)\.width$")
_PITCH, _TALL = 1.3, 0.8  # from one task to the next; height of a full-width branch
_WIDE, _GAP, _DECODER, _LABEL = 0.95, 0.75, 0.95, 1.25


def branches(arch: ArchConfig) -> bool:
    """Return whether the names of the choices tell of a tree."""
    return any(_BRANCH.match(name) for name in arch)


def info(arch: ArchConfig, others: Sequence[ArchConfig] = ()) -> pd.DataFrame:
    """Return one row per part: ``part`` (stem, branch, decoder), ``name`` (its first task), ``layer``, ``tasks`` (all that take
    it, with + between them), ``from`` (first task of the branch before it), ``width``, ``max_width``, ``precision``.

    Args:
        arch: What to draw.
        others: Architectures of the same space, from which the largest width is read where widths are no ratios.
    """
    led = [(int(match[1]), match[2]) for match in map(_BRANCH.match, arch) if match]
    layers = max(layer for layer, _ in led) + 1
    leading = {task for _, task in led}
    decoded = [name.split(".")[1] for name in arch if name.startswith("decoder.") and name.endswith(".width")]
    followers = [name.split(".")[1] for name in arch if name.startswith("branch.") and name.endswith(".layers")]
    first = next(task for task in [*leading, *decoded] if task not in followers)  # only it shares with none before it

    @cache
    def leader(task: str, layer: int) -> str:
        if task == first or layer >= int(arch[f"branch.{task}.layers"]):
            return task
        return leader(str(arch.get(f"branch.{task}.with", first)), layer)

    tasks = [first, *followers]
    trees = [partition([leader(task, layer) for task in tasks], tasks) for layer in range(layers)]
    leads = [{block: leader(block[0], layer) for block in blocks} for layer, blocks in enumerate(trees)]
    largest = {name: max(_number(each.get(name)) for each in (arch, *others)) for name in arch}
    return _rows(
        [[(leads[layer][block], block) for block in blocks] for layer, blocks in enumerate(trees)],
        {name: _number(option) for name, option in arch.items()},
        largest,
        {name: str(option) for name, option in arch.items() if name.startswith("precision.")},
        "stem.width" in arch,
    )


def sketch(tree: Tree) -> pd.DataFrame:
    """Return what `info` returns, of a tree that is no architecture of a space: its suggested widths, else full ones."""
    widths = {
        f"encoder.{layer}.{block[0]}.width": tree.widths[layer].get(block[0], 1.0) if tree.widths else 1.0
        for layer, blocks in enumerate(tree.partitions)
        for block in blocks
    }
    return _rows([[(block[0], block) for block in blocks] for blocks in tree.partitions], widths, {}, {}, False)


def draw(frame: pd.DataFrame) -> go.Figure:
    """Return the drawing of what `info` gave: the height of a box is its width in channels, the outline the full one."""
    figure = go.Figure()
    decoders = frame[frame["part"] == "decoder"]
    order = decoders["name"].to_list()
    colour = {task: palette.series(i + 1) for i, task in enumerate(order)}
    y_of = {task: ((len(order) - 1) / 2 - i) * _PITCH for i, task in enumerate(order)}

    def height(tasks: str) -> float:
        members = tasks.split("+")
        return sum(y_of[task] for task in members) / len(members)

    shapes.box(figure, 0.0, 0.0, 0.75, _TALL * 1.4, None, 1.0)
    shapes.text(figure, 0.375, 0.0, "input")
    x, before = 0.75, {"": (0.75, 0.0)}  # where links start, by the branch before
    hovers: list[tuple[float, float, str]] = []
    half = max(1.4, (len(order) - 1) / 2 * _PITCH + 1.05)
    inner = frame[frame["part"] != "decoder"]
    for layer in sorted({int(layer) for layer in inner["layer"]}):
        left, after = x + _GAP, dict[str, tuple[float, float]]()
        for _, part in inner[inner["layer"] == layer].iterrows():
            y, alone = height(part["tasks"]), "+" not in part["tasks"] and part["part"] == "branch"
            start = before.get(part["from"], before.get("", (x, 0.0)))
            shapes.link(figure, *start, left, y)
            fill = colour[part["tasks"]] if alone else palette.MEASURED
            shapes.box(figure, left, y, _WIDE, _TALL, fill, part["width"] / part["max_width"])
            shapes.text(figure, left + _WIDE / 2, y - _TALL / 2 - 0.15, _label(part))
            after[part["name"]] = (left + _WIDE, y)
            what = "stem, of all tasks" if part["part"] == "stem" else f"layer {layer}, of {part['tasks'].replace('+', ', ')}"
            hovers.append((left + _WIDE / 2, y, f"{what}<br>width {_label(part)}"))
        shapes.text(figure, left + _WIDE / 2, half - 0.18, "stem" if layer < 0 else f"layer {layer}")
        x, before = left + _WIDE, after
    shapes.text(figure, x + _GAP + _DECODER / 2, half - 0.18, "decoders")
    for _, part in decoders.iterrows():
        y, left = y_of[part["name"]], x + _GAP
        shapes.link(figure, *before.get(part["from"], (x, 0.0)), left, y)
        ratio = part["width"] / part["max_width"]
        shapes.box(figure, left, y, _DECODER, _TALL, colour[part["name"]], ratio)
        shapes.text(figure, left + _DECODER + 0.12, y, f"{_label(part)}<br>{part['name']}", "left")
        hovers.append((left + _DECODER / 2, y, f"decoder of {part['name']}<br>width {_label(part)}"))
    shapes.hover(figure, hovers)
    return shapes.frame(figure, x + _GAP + _DECODER + _LABEL, half, int(105 * 2 * half / 2) + 40)


def _rows(
    layers: Sequence[Sequence[tuple[str, tuple[str, ...]]]],
    widths: Mapping[str, float],
    largest: Mapping[str, float],
    precisions: Mapping[str, str],
    stem: bool,
) -> pd.DataFrame:
    """Return the rows of `info`.

    Args:
        layers: Per layer the branches: first task, and all tasks.
        widths: By the name of the choice; 1 where it has none.
        largest: By the name of the choice, where it is more than 1.
        precisions: By the name of the choice.
        stem: Whether there is a choice of the stem's width.
    """

    def row(part: str, name: str, layer: int, tasks: Sequence[str], parent: str, choice: str, *blocks: str) -> dict[str, Any]:
        precision = next((precisions[f"precision.{each}"] for each in blocks if f"precision.{each}" in precisions), "")
        width, full = widths.get(choice, 1.0), max(1.0, largest.get(choice, 1.0))
        return dict(zip(COLUMNS, (part, name, layer, "+".join(tasks), parent, width, full, precision), strict=True))

    lead = [{task: leader for leader, block in branches_ for task in block} for branches_ in layers]
    place = {task: i for i, task in enumerate(lead[0])}
    # Tasks that part late stand together, so that no two links cross.
    tasks = sorted(place, key=lambda task: [place[each[task]] for each in lead])
    rows = [row("stem", "", -1, tasks, "", "stem.width", "stem")] if stem else []
    for layer, blocks in enumerate(layers):
        for leader, block in blocks:
            parent = lead[layer - 1][block[0]] if layer else ""
            choice, path = f"encoder.{layer}.{leader}.width", f"stages.{layer}"
            rows.append(row("branch", leader, layer, block, parent, choice, f"{path}.{leader}", path))
    rows += [
        row("decoder", task, len(layers), [task], lead[-1][task], f"decoder.{task}.width", f"decoders.{task}") for task in tasks
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _label(part: pd.Series[Any]) -> str:
    width = f"×{part['width']:.3g}" if part["max_width"] <= 1 else f"{part['width']:g}"
    return f"<b>{width}</b>" + (f" · {part['precision']}" if part["precision"] else "")


def _number(option: object) -> float:
    return float(option) if isinstance(option, int | float) else 0.0
