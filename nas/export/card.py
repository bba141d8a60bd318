"""The model card: what an exported file is, what was measured of it, and how to run it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.core import ArchConfig, Fingerprint, InputSpec, Task
from nas.core.json_text import without_nan
from nas.export.traced import input_name

COST_UNITS = {"macs": "MACs", "params": "parameters", "size_bytes": "bytes", "latency_ms": "ms", "peak_bytes": "bytes"}
PACKAGES = ("nas", "torch", "onnx", "onnxruntime", "numpy")
OUTPUT_MEANINGS = {
    "classification": "class scores (logits), shape (batch, {n}); the argmax predicts",
    "segmentation": "class scores (logits) per pixel, shape (batch, {n}, height, width); the argmax over axis 1 predicts",
    "depth": "depth in metres per pixel, shape (batch, {n}, height, width)",
    "normals": "surface normal per pixel, shape (batch, {n}, height, width); divide by the norm over axis 1",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What only the caller of an export knows.

    Attributes:
        job: Id of the job.
        space: Name of the search space.
        arch: The architecture.
        input: What the network takes.
        tasks: Its outputs, in order.
        metrics: What was measured of it: ``miou.seg``, ``latency_ms@local`` and so on.
        units: Metric, or its part before the ``.``, to unit; those of costs are known.
        data: Name of the data set.
        split: Data split of the task metrics.
        device: Name of the device of the latencies, where there are any.
        fingerprint: That device's fingerprint.
        checkpoint: SHA-256 of the supernet's weights, first 16 digits.
        seed: Seed of the job.
    """

    job: str
    space: str
    arch: ArchConfig
    input: InputSpec
    tasks: tuple[Task, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    split: str = ""
    device: str | None = None
    fingerprint: Fingerprint | None = None
    checkpoint: str | None = None
    seed: int = 0


def make_card(
    facts: CardFacts, path: Path, name: str, differences: Mapping[str, float], measured: Mapping[str, float]
) -> dict[str, Any]:
    """Return the card as JSON-able values.

    Args:
        facts: What the caller knows.
        path: The checked ONNX file, under whatever name.
        name: The name it will have, without its ending.
        differences: Output to largest difference between ONNX Runtime and torch.
        measured: What was measured of the file itself.
    """
    content = path.read_bytes()
    shape = ["batch", facts.input.channels, facts.input.height, facts.input.width]
    return {
        "name": name,
        "file": f"{name}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "job": facts.job,
        "seed": facts.seed,
        "checkpoint": facts.checkpoint,
        "space": facts.space,
        "architecture": {"key": facts.arch.key, "choices": dict(facts.arch)},
        "input": {
            "name": input_name(facts.tasks),
            "dtype": "float32",
            "shape": shape,
            "range": [0.0, 1.0],
            "preprocessing": "8-bit pixels divided by 255; the network normalises by itself",
        },
        "outputs": [
            {
                "name": task.name,
                "kind": task.kind,
                "channels": task.outputs,
                "meaning": OUTPUT_MEANINGS[task.kind].format(n=task.outputs),
                "labels": list(task.labels),
            }
            for task in facts.tasks
        ],
        "data": {"name": facts.data, "split": facts.split},
        "metrics": _with_units(facts.metrics, facts.units),
        "device": {"name": facts.device, "fingerprint": asdict(facts.fingerprint), "key": facts.fingerprint.key}
        if facts.fingerprint
        else None,
        "checks": {
            "max_difference_onnxruntime_torch": dict(differences),
            "measured_on_this_file": _with_units(measured, facts.units),
        },
        "versions": {"python": platform.python_version()} | _versions(),
    }


def to_markdown(card: Mapping[str, Any]) -> str:
    """Return the card for people."""
    lines = [
        f"# {card['name']}",
        "",
        f"A network for {', '.join(output['name'] for output in card['outputs'])}, found by job `{card['job']}`: "
        f"architecture `{card['architecture']['key']}` of space `{card['space']}`.",
        "",
        f"File `{card['file']}`, {card['size_bytes']:,} bytes, SHA-256 `{card['sha256']}`.",
        "",
        "## Metrics",
        "",
        _measured_where(card),
        "",
        "| metric | value | unit | measured on this file |",
        "|---|---:|---|---:|",
    ]
    own = card["checks"]["measured_on_this_file"]
    for metric in [*card["metrics"], *(name for name in own if name not in card["metrics"])]:
        entry = card["metrics"].get(metric)
        unit = (entry or own[metric])["unit"]
        cells = [_cell(found[metric]["value"]) if metric in found else "" for found in (card["metrics"], own)]
        lines.append(f"| {metric} | {cells[0]} | {unit} | {cells[1]} |")
    lines += ["", "## Input", ""]
    taken = card["input"]
    lines += [f"`{taken['name']}`: {taken['dtype']}, shape ({', '.join(map(str, taken['shape']))}); {taken['preprocessing']}."]
    lines += ["", "## Outputs", ""]
    for output in card["outputs"]:
        labels = f". Labels: {', '.join(output['labels'])}" if output["labels"] else ""
        lines.append(f"- `{output['name']}` ({output['kind']}): {output['meaning']}{labels}")
    lines += [
        "",
        "## Run it",
        "",
        "```python",
        run_snippet(card),
        "```",
        "",
        "## Architecture",
        "",
        "| choice | option |",
        "|---|---|",
    ]
    lines += [f"| {choice} | {option} |" for choice, option in card["architecture"]["choices"].items()]
    lines += ["", "## Checks", "", "Largest difference between ONNX Runtime and torch, over random and given inputs:", ""]
    lines += [f"- `{name}`: {value:.2g}" for name, value in card["checks"]["max_difference_onnxruntime_torch"].items()]
    lines += ["", "## Provenance", "", f"Seed {card['seed']}, weights `{card['checkpoint']}`."]
    lines += ["Made with " + ", ".join(f"{package} {version}" for package, version in card["versions"].items()) + ".", ""]
    return "\n".join(lines)


def run_snippet(card: Mapping[str, Any]) -> str:
    """Return a Python program that runs the file, which lies in the working directory, on one image of zeros."""
    names = ", ".join(json.dumps(output["name"], ensure_ascii=False) for output in card["outputs"])
    image = json.dumps(card["input"]["name"], ensure_ascii=False)
    _, channels, height, width = card["input"]["shape"]
    return "\n".join(
        [
            "import numpy as np",
            "import onnxruntime",
            "",
            "options = onnxruntime.SessionOptions()",
            'options.add_free_dimension_override_by_name("batch", 1)  # faster for single images; leave out for batches',
            f'session = onnxruntime.InferenceSession("{card["file"]}", options, providers=["CPUExecutionProvider"])',
            f"pixels = np.zeros((1, {channels}, {height}, {width}), dtype=np.uint8)  # your image, channels first",
            f"outputs = session.run([{names}], {{{image}: pixels.astype(np.float32) / 255}})",
            "print([output.shape for output in outputs])",
        ]
    )


def _cell(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"


def _with_units(metrics: Mapping[str, float], units: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    known = COST_UNITS | dict(units)
    return {
        metric: {
            "value": without_nan(float(value)),
            "unit": known.get(metric, known.get(metric.partition("@")[0].partition(".")[0], "")),
        }
        for metric, value in metrics.items()
    }


def _measured_where(card: Mapping[str, Any]) -> str:
    data = f"Task metrics on the {card['data']['split']} split of `{card['data']['name']}`." if card["data"]["split"] else ""
    if card["device"] is None:
        return data or "Nothing was measured on data or on a device."
    place = card["device"]["fingerprint"]
    return (
        f"{data} Latency for one image on `{card['device']['name']}`: {place['cpu']}, {place['threads']} thread(s), "
        f"ONNX Runtime {place['onnxruntime']}, {place['provider']}."
    ).strip()


def _versions() -> dict[str, str]:
    """Return the versions of what made the file; a package that was installed without its metadata has none to tell."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
