"""A sheet of sample predictions beside their truth, one row per image."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nas.core import Task
from nas.data import Split, batches
from nas.supernet import MultiTaskNet
from nas.tasks import task_kind

SAMPLES = 4
CELL = 128  # pixels of the longer side of a picture
GAP, CAPTION = 6, 16


@torch.no_grad()
def sample_sheet(module: MultiTaskNet, split: Split, tasks: Sequence[Task], samples: int = SAMPLES) -> bytes:
    """Return a PNG: the input, then for each task the truth and the prediction.

    Args:
        module: In eval mode.
        split: Images spread over it are drawn.
        tasks: Of the network. A task whose kind has no picture is written as text.
        samples: Rows.
    """
    count = min(samples, len(split))
    chosen = split.subset([i * len(split) // count for i in range(count)])
    x, targets = next(batches(chosen, tasks, count, None))
    outputs = module(x)
    columns = ["input", *(f"{task.name}: {side}" for task in tasks for side in ("truth", "predicted"))]
    width, height = _cell(x.shape[-1], x.shape[-2])
    sheet = Image.new("RGB", (len(columns) * (width + GAP) + GAP, CAPTION + count * (height + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        pen.text((GAP + column * (width + GAP), 2), title, fill="black")
    for row in range(count):
        cells: list[NDArray[np.uint8] | str] = [_pixels(x[row].cpu().numpy())]
        for task in tasks:
            kind = task_kind(task.kind)
            for values in (targets[task.name][row].cpu().numpy(), outputs[task.name][row].float().cpu().numpy()):
                picture = kind.draw(values, outputs=task.outputs)
                cells.append(kind.describe(values, task.labels, task.outputs) if picture is None else picture)
        for column, cell in enumerate(cells):
            left, top = GAP + column * (width + GAP), CAPTION + GAP + row * (height + GAP)
            if isinstance(cell, str):
                pen.text((left, top + height // 2), cell, fill="black")
            else:
                sheet.paste(Image.fromarray(cell).resize((width, height), Image.Resampling.NEAREST), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _cell(width: int, height: int) -> tuple[int, int]:
    scale = CELL / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _pixels(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (h, w, 3) from (c, h, w) in [0, 1]; one channel becomes grey, more than three show the first three."""
    rgb = np.repeat(x, 3, axis=0) if len(x) == 1 else x[:3]
    return (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
