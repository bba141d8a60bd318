"""What a metric is called for people, its unit, its direction and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a family of metrics is shown.

    Attributes:
        title: Name for people.
        unit: Written after the number; an empty string for a ratio.
        form: ``si`` (k, M, G prefixes), ``bytes``, a number of decimals, or of digits as ``4g``.
        higher_is_better: The direction.
        meaning: One line for a tooltip.
    """

    title: str
    unit: str
    form: str
    higher_is_better: bool
    meaning: str


KINDS = {
    "error": Kind("Error", "", "4g", False, "What the search minimises for this task; lower is better"),
    "miou": Kind("mIoU", "%", "1", True, "Mean intersection over union of the classes"),
    "pixel_accuracy": Kind("Pixel accuracy", "%", "1", True, "Share of pixels whose class is right"),
    "accuracy": Kind("Accuracy", "%", "1", True, "Share of images whose class is right"),
    "rmse_m": Kind("RMSE", "m", "3", False, "Root mean square error of the depth"),
    "rel": Kind("Relative error", "", "3", False, "Mean absolute error over true depth"),
    "mean_deg": Kind("Mean angle", "°", "1", False, "Mean angle between predicted and true normals"),
    "median_deg": Kind("Median angle", "°", "1", False, "Median angle between predicted and true normals"),
    "within_11": Kind("Within 11.25°", "%", "1", True, "Share of pixels whose normal is off by less than 11.25°"),
    "delta1": Kind("δ < 1.25", "%", "1", True, "Share of pixels whose depth is within a factor of 1.25 of the truth"),
    "delta_m": Kind("Δm", "%", "1", True, "Mean relative gain over each task trained alone; higher is better"),
    "macs": Kind("MACs", "", "si", False, "Multiply-accumulates for one input"),
    "params": Kind("Parameters", "", "si", False, "Number of parameters"),
    "size_bytes": Kind("Model size", "B", "bytes", False, "Bytes of the ONNX file"),
    "peak_bytes": Kind("Activation memory", "B", "bytes", False, "Activations alive at once: a lower bound of a run's memory"),
    "latency_ms": Kind("Latency", "ms", "2", False, "Milliseconds for one input"),
}


def split(metric: str) -> tuple[str, str, str]:
    """Return family, task and device of a metric's name; empty strings where it has none."""
    head, _, device = metric.partition("@")
    family, _, task = head.partition(".")
    return family, task, device


def kind(metric: str) -> Kind:
    """Return how `metric` is shown; an unknown family keeps its own name and has no unit."""
    family = split(metric)[0]
    return KINDS.get(family) or Kind(family.replace("_", " "), "", "4g", False, "")


def label(metric: str) -> str:
    """Return the name for people, such as ``mIoU · seg`` or ``Latency · local``."""
    _, task, device = split(metric)
    return " · ".join(part for part in (kind(metric).title, task, device) if part)


def axis_title(metric: str) -> str:
    """Return the label with its unit in brackets."""
    unit = kind(metric).unit
    return f"{label(metric)} ({unit})" if unit and unit != "B" else label(metric)


def direction(metric: str) -> str:
    """Return ``min`` or ``max``."""
    return "max" if kind(metric).higher_is_better else "min"


def si(value: float, unit: str = "") -> str:
    """Return `value` with three digits and an SI prefix: ``1.24 M``, ``310 k``, ``2.10 MB`` with unit ``B``."""
    if not math.isfinite(value):
        return "–"
    power = min(4, max(0, (len(str(int(abs(value)))) - 1) // 3))
    scaled = value / 1000.0**power
    if float(f"{abs(scaled):.3g}") >= 1000 and power < 4:  # 999,999 is 1.00 M, not 1000 k
        power, scaled = power + 1, scaled / 1000.0
    digits = 0 if power == 0 and float(value).is_integer() else max(0, 2 - len(str(int(abs(scaled)))) + 1)
    return f"{scaled:.{digits}f} {('', 'k', 'M', 'G', 'T')[power]}{unit}".strip().replace("-", _MINUS)


def number(metric: str, value: float) -> str:
    """Return `value` as people read it, with its unit; a dash where it is not known."""
    shown = kind(metric)
    if value is None or not math.isfinite(value):
        return "–"
    if shown.form in ("si", "bytes"):
        return si(value, shown.unit)
    sign = "+" if metric == "delta_m" else ""
    text = f"{value:{sign}.{shown.form}f}" if shown.form.isdigit() else f"{value:#.{shown.form}}".rstrip(".")
    gap = "" if shown.unit in ("", "°") else " "
    return f"{text}{gap}{shown.unit}".replace("-", _MINUS)


def tick_format(metric: str) -> tuple[str, str]:
    """Return Plotly's tick format and suffix for an axis of `metric`."""
    form = kind(metric).form
    if form == "bytes":
        return "~s", "B"
    return ("~s" if form == "si" else "~g"), ""


def order(metrics: set[str], objectives: tuple[str, ...]) -> list[str]:
    """Return `metrics` with the objectives first, then by task quality, then by cost, each by name."""
    rest = metrics - set(objectives)
    return [m for m in objectives if m in metrics] + sorted(rest, key=lambda m: ("." not in m, m))
