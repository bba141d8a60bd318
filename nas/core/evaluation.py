"""What is known of an architecture: numbers, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np

from nas.core.arch import ArchConfig
from nas.core.objective import Objective, to_minimise
from nas.core.pareto import pareto_mask
from nas.core.types import BoolArray


class Source(StrEnum):
    """Whether numbers were measured or predicted. A front holds one kind only."""

    MEASURED = "measured"
    PREDICTED = "predicted"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of one architecture.

    Attributes:
        arch: The architecture.
        metrics: Name to value: ``error.seg``, ``miou.seg``, ``macs``, ``latency_ms@local`` and so on.
        source: Measured or predicted. A latency that a predictor gave makes the whole evaluation predicted.
        stage: Which stage made it: ``search``, ``verify``, ``twins``; ``reused`` where another job's search did, ``screen``
            where a search looked at a part of the images only, ``control`` where a budget and preferences asked for it;
            ``finetuned`` and ``pruned`` where a subnet was refined afterwards.
        split: Data split of the task metrics: ``val``, ``test``, ``val-part``, or an empty string where there are none.
        device: Fingerprint key of the device of the latencies, where measured.
        checkpoint: SHA-256 of the weights, first 16 digits.
        seed: Seed of the job.
        std: Standard deviations of predicted metrics, and spreads of measured ones, where known.
        failure: Why there are no metrics: the candidate was skipped. An empty string otherwise.
        made: When it was measured, an aware moment in UTC; None where that is not known. What was measured when, and how fast,
            makes no other evaluation of it: times are not compared.
        seconds: How long each part of it took: ``training``, ``batch_norms``, ``export``, ``accuracy``, ``latency``.
    """

    arch: ArchConfig
    metrics: Mapping[str, float]
    source: Source
    stage: str
    split: str = ""
    device: str | None = None
    checkpoint: str | None = None
    seed: int = 0
    std: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    made: datetime | None = field(default=None, compare=False)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)


def front(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> list[Evaluation]:
    """Return the Pareto front of measured evaluations that meet every limit, the cheapest first.

    Evaluations that lack an objective, failed, or are predicted are left out. The order is that of the last objective
    that is a cost, else of the first objective.
    """
    measured = [row for row in evaluations if row.source is Source.MEASURED and not row.failure]
    values = to_minimise(objectives, [row.metrics for row in measured])
    limits = np.array([np.inf if o.limit is None else o.sign * o.limit for o in objectives])
    keep: BoolArray = np.asarray((values <= limits).all(axis=1), dtype=bool)  # False where NaN
    feasible = [row for row, ok in zip(measured, keep, strict=True) if ok]
    mask = pareto_mask(values[keep])
    costs = [o for o in objectives if "." not in o.metric.partition("@")[0] and o.metric != "delta_m"]
    by = costs[-1] if costs else objectives[0]
    return sorted((row for row, on in zip(feasible, mask, strict=True) if on), key=lambda row: by.sign * row.metrics[by.metric])
