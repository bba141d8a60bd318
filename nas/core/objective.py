"""What a search improves: a tuple of metrics, each with a direction and an optional limit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.core.errors import ObjectiveError, nearest
from nas.core.types import FloatArray

COST_METRICS = {
    "macs": "multiply-accumulates for one input",
    "params": "number of parameters",
    "size_bytes": "bytes of the ONNX file",
    "latency_ms": "milliseconds for one input on a device, written latency_ms@DEVICE",
    "peak_bytes": "bytes of activations alive at once, a lower bound of the memory that a run takes",
}
_LIMIT = re.compile(r"^\s*(?P<metric>[\w.@-]+)\s*(?P<sign><=|>=)\s*(?P<value>[-+.\deE]+)\s*$")


@dataclass(frozen=True, slots=True)
class Objective:
    """One metric to improve.

    Attributes:
        metric: ``error.TASK``, ``delta_m``, ``macs``, ``params``, ``size_bytes``, ``latency_ms@DEVICE``, ``peak_bytes``,
            or a metric of a task such as ``miou.TASK``.
        direction: ``min`` or ``max``.
        limit: What a value may not cross: an upper bound where minimised, a lower bound where maximised.
    """

    metric: str
    direction: Literal["min", "max"] = "min"
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ObjectiveError(f"a direction is min or max: {self.metric} has {self.direction!r}")
        if self.limit is not None and not np.isfinite(self.limit):
            raise ObjectiveError(f"a limit is a finite number: {self.metric} has {self.limit}")

    @property
    def device(self) -> str | None:
        """The device after the ``@``, or None."""
        return self.metric.partition("@")[2] or None

    @property
    def sign(self) -> float:
        """1 where minimised, -1 where maximised: a value times its sign is minimised."""
        return 1.0 if self.direction == "min" else -1.0

    def violation(self, value: float) -> float:
        """Return by how much `value` crosses the limit; zero or less where it does not, or where there is none."""
        return 0.0 if self.limit is None else self.sign * (value - self.limit)


def parse_limit(text: str) -> Objective:
    """Return the objective that ``latency_ms@local<=5`` or ``miou.seg>=0.3`` writes.

    Raises:
        ObjectiveError: The text is not ``METRIC<=NUMBER`` or ``METRIC>=NUMBER``.
    """
    match = _LIMIT.match(text)
    try:
        if match:
            return Objective(match["metric"], "min" if match["sign"] == "<=" else "max", float(match["value"]))
    except ValueError:
        pass
    raise ObjectiveError(f"a limit reads METRIC<=NUMBER or METRIC>=NUMBER, such as latency_ms@local<=5: got {text!r}")


def parse_preference(text: str, tasks: Sequence[str]) -> dict[str, float]:
    """Return weights that sum to one from ``seg=0.7,depth=0.3``; tasks that are not named get zero.

    Raises:
        ObjectiveError: A name is no task, a weight is negative or no number, or all are zero.
    """
    weights = dict.fromkeys(tasks, 0.0)
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in weights:
            raise ObjectiveError(f"a preference names tasks of the job: {name!r} is none; {nearest(name, tasks)}")
        try:
            weights[name] = float(number)
        except ValueError:
            raise ObjectiveError(f"a preference reads TASK=NUMBER: got {part!r}; write for example {name}=0.5") from None
        if not np.isfinite(weights[name]) or weights[name] < 0:
            raise ObjectiveError(f"a preference is zero or more: {name} has {number}; the nearest valid value is 0")
    total = sum(weights.values())
    if total == 0:
        raise ObjectiveError(f"preferences sum to more than zero: got {text!r}; give at least one task a positive weight")
    return {name: weight / total for name, weight in weights.items()}


def to_minimise(objectives: Sequence[Objective], metrics: Sequence[Mapping[str, float]]) -> FloatArray:
    """Return shape (n, m): each metric times its direction's sign; NaN where a row lacks it."""
    rows = [[objective.sign * row.get(objective.metric, np.nan) for objective in objectives] for row in metrics]
    return np.array(rows, dtype=float).reshape(len(metrics), len(objectives))
