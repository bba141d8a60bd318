"""Control after training: which subnet of a trained supernet a budget and preferences ask for.

The idea is that of Aich et al., Efficient Controllable Multi-Task Architectures (ICCV 2023): the preferred task gets the larger
decoder, and the shared encoder is chosen for what is left of the budget. How that is done here is ours:

- A decoder's width is a step of its task's preference. The steps are one function for all tasks, and depend on the budget
  alone: they come earlier as the budget grows (`Steps`; `nas.search.control` chooses them).
- The encoder is then the one with the best predicted score among all whose predicted cost fits with a margin.

What holds by construction, for every table: a task that is preferred to another never has a narrower decoder; raising a task's
preference never narrows its decoder; the predicted cost with its margin keeps the budget; a wider budget narrows no decoder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.arch import ArchConfig, Option
from nas.core.errors import ObjectiveError, nearest
from nas.core.job import JobId, Stage
from nas.core.json_text import to_json
from nas.core.objective import Objective
from nas.core.protocols import Store
from nas.core.types import Codes, FloatArray

KIND = "control"  # of the artifact that holds a table
FORM = 1  # of the file; another one is built again
TIE = 1e-9  # scores that differ by less are one, and the cheaper encoder counts


@dataclass(frozen=True, slots=True)
class Steps:
    """From which preference on a decoder is wider, for one budgeted cost.

    Attributes:
        budgets: Budgets from which each row of `thresholds` holds, ascending, shape (b,). The first is the smallest that any
            subnet keeps.
        thresholds: Preference from which a decoder has at least its second, third, ... width, shape (b, widths - 1); infinite
            where never. Above zero; never falling along a row, never rising down a column.
        regret: Score lost by the steps against the best decoders for each sampled preference, over all budgets.
    """

    budgets: FloatArray
    thresholds: FloatArray
    regret: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost of every subnet of a table.

    Attributes:
        predicted: Shape (encoders, decoders); decoders in the order of `ControlTable.vectors`.
        margin: Share by which a cost may be above its prediction and is still expected to keep its budget.
        off: Root mean square of the relative errors of the prediction on what it was not fitted on; zero where it is counted.
    """

    predicted: FloatArray
    margin: float = 0.0
    off: float = 0.0


@dataclass(frozen=True, slots=True)
class Controlled:
    """The subnet that a budget and preferences ask for. Every number is predicted.

    Attributes:
        arch: The subnet.
        score: Preference-weighted mean of the tasks' errors, each relative to that of the largest subnet.
        metrics: Predicted ``error.TASK`` and costs.
        std: Of each predicted metric, the root mean square error on what its predictor had not seen, in its unit.
        most: Of each cost, the prediction with its margin: what is compared with a budget.
    """

    arch: ArchConfig
    score: float
    metrics: Mapping[str, float]
    std: Mapping[str, float]
    most: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ControlTable:
    """What is predicted of the subnets of one supernet: encoders by decoders.

    Attributes:
        tasks: Of the job, in its order.
        widths: Options of a decoder's width, the smallest first.
        choices: Name and options of every other choice.
        encoders: Their codes, shape (e, choices): the position of the option, -1 where a choice is inactive.
        errors: Predicted error of each task under each encoder and each width of its own decoder, shape (tasks, e, widths). The
            width of another task's decoder changes nothing, as decoders read the encoder alone.
        largest: Predicted error of each task under the largest subnet, shape (tasks,): the unit of its score.
        off: Root mean square of the relative errors of each task's prediction on what it was not fitted on, shape (tasks,).
        costs: Metric to the cost of every subnet.
        steps: Metric to the steps of the decoders under a budget for it.
        checkpoint: SHA-256 of the weights, first 16 digits.
    """

    tasks: tuple[str, ...]
    widths: tuple[Option, ...]
    choices: tuple[tuple[str, tuple[Option, ...]], ...]
    encoders: Codes
    errors: FloatArray
    largest: FloatArray
    off: FloatArray
    costs: Mapping[str, Cost]
    steps: Mapping[str, Steps]
    checkpoint: str

    def shares(self, preference: Mapping[str, float]) -> FloatArray:
        """Return preferences that sum to one, shape (tasks,); a task that is not named has zero.

        Raises:
            ObjectiveError: A name is no task, a preference is negative or no number, or all are zero.
        """
        for name, value in preference.items():
            if name not in self.tasks:
                raise ObjectiveError(f"a preference names tasks of the job: {name!r} is none; {nearest(name, self.tasks)}")
            if not math.isfinite(value) or value < 0:
                raise ObjectiveError(f"a preference is zero or more: {name} has {value}; the nearest valid value is 0")
        raw = np.array([preference.get(task, 0.0) for task in self.tasks], dtype=float)
        if raw.sum() == 0:
            raise ObjectiveError("preferences sum to more than zero: all are 0; give at least one task a positive weight")
        return np.asarray(raw / raw.sum())

    def range_of(self, metric: str) -> tuple[float, float]:
        """Return the smallest budget that a subnet keeps, and the smallest that all keep.

        Raises:
            ObjectiveError: The metric is no cost of the table.
        """
        cost = self._cost(metric)
        return float(self.steps[metric].budgets[0]), float(cost.predicted.max() * (1 + cost.margin))

    def decoders(self, budget: Objective, preference: Mapping[str, float]) -> tuple[int, ...]:
        """Return the position of each task's width.

        Raises:
            ObjectiveError: The preferences are none, or no subnet keeps the budget; the message names the nearest valid one.
        """
        shares, steps = self.shares(preference), self.steps[self._budgeted(budget)]
        assert budget.limit is not None, "checked above"
        level = int(np.searchsorted(steps.budgets, budget.limit, side="right")) - 1
        if level < 0:
            raise ObjectiveError(
                f"a budget is kept by some subnet: none is predicted to keep {budget.metric}<={budget.limit:.12g}; the nearest "
                f"valid budget is {_rounded_up(float(steps.budgets[0])):.12g}"
            )
        return tuple(int(n) for n in (shares[:, None] >= steps.thresholds[level]).sum(axis=1))

    def control(self, budget: Objective, preference: Mapping[str, float]) -> Controlled:
        """Return the subnet for a budget such as ``parse_limit("latency_ms@local<=5")`` and preferences.

        Raises:
            ObjectiveError: The budget or the preferences cannot be met; the message says what can.
        """
        widths, shares = self.decoders(budget, preference), self.shares(preference)
        at, cost = self.column(widths), self._cost(budget.metric)
        most = cost.predicted[:, at] * (1 + cost.margin)
        fits = np.flatnonzero(most <= (budget.limit or 0.0))
        scores = self.scores(widths, shares)[fits]
        best = fits[scores <= scores.min() + TIE]
        return self.subnet(int(best[np.argmin(most[best])]), widths, shares)

    def scores(self, widths: tuple[int, ...], shares: FloatArray) -> FloatArray:
        """Return the score of every encoder under these decoders, shape (e,)."""
        errors = np.array([self.errors[task, :, width] for task, width in enumerate(widths)])
        return np.asarray((shares / self.largest) @ errors)

    def subnet(self, encoder: int, widths: tuple[int, ...], shares: FloatArray) -> Controlled:
        """Return what is predicted of one encoder with these decoders."""
        picks: dict[str, Option] = {
            name: options[code]
            for (name, options), code in zip(self.choices, self.encoders[encoder].tolist(), strict=True)
            if code >= 0
        }
        picks |= {f"decoder.{task}.width": self.widths[n] for task, n in zip(self.tasks, widths, strict=True)}
        at = self.column(widths)
        errors = {f"error.{t}": float(self.errors[i, encoder, widths[i]]) for i, t in enumerate(self.tasks)}
        costs = {metric: float(cost.predicted[encoder, at]) for metric, cost in self.costs.items()}
        std = {name: value * float(self.off[i]) for i, (name, value) in enumerate(errors.items())}
        std |= {metric: value * self.costs[metric].off for metric, value in costs.items()}
        most = {metric: value * (1 + self.costs[metric].margin) for metric, value in costs.items()}
        score = float(np.array(list(errors.values())) / self.largest @ shares)
        return Controlled(ArchConfig(picks), score, errors | costs, std, most)

    def column(self, widths: tuple[int, ...]) -> int:
        """Return the column of `Cost.predicted` of these decoders."""
        return int(np.ravel_multi_index(widths, (len(self.widths),) * len(self.tasks)))

    def save(self, path: Path) -> None:
        """Write the table as ``.npz``: arrays, and the rest as JSON."""
        facts = {
            "form": FORM,
            "tasks": self.tasks,
            "widths": self.widths,
            "choices": self.choices,
            "checkpoint": self.checkpoint,
            "costs": {metric: [cost.margin, cost.off] for metric, cost in self.costs.items()},
            "regret": {metric: steps.regret for metric, steps in self.steps.items()},
        }
        arrays: dict[str, Any] = {"facts": np.array(to_json(facts)), "encoders": self.encoders}
        arrays |= {"errors": self.errors, "largest": self.largest, "off": self.off}
        for metric in self.costs:
            arrays[f"{metric}/predicted"] = self.costs[metric].predicted
            arrays[f"{metric}/budgets"] = self.steps[metric].budgets
            arrays[f"{metric}/thresholds"] = self.steps[metric].thresholds
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> ControlTable:
        """Return the table that `save` wrote.

        Raises:
            ValueError: The file has another form.
        """
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["form"] != FORM:
                raise ValueError(f"a control table has form {FORM}: {path} has {facts['form']}")
            costs = {m: Cost(file[f"{m}/predicted"], margin, off) for m, (margin, off) in facts["costs"].items()}
            steps = {m: Steps(file[f"{m}/budgets"], file[f"{m}/thresholds"], facts["regret"][m]) for m in costs}
            return cls(
                tuple(facts["tasks"]),
                tuple(facts["widths"]),
                tuple((name, tuple(options)) for name, options in facts["choices"]),
                file["encoders"],
                file["errors"],
                file["largest"],
                file["off"],
                costs,
                steps,
                facts["checkpoint"],
            )

    def _cost(self, metric: str) -> Cost:
        if metric not in self.costs:
            raise ObjectiveError(f"a budget bounds a cost that is predicted: {metric!r} is none; {nearest(metric, self.costs)}")
        return self.costs[metric]

    def _budgeted(self, budget: Objective) -> str:
        self._cost(budget.metric)
        if budget.direction != "min" or budget.limit is None:
            raise ObjectiveError(f"a budget is an upper bound: {budget.metric} has none; write for example {budget.metric}<=5")
        return budget.metric


def vectors(tasks: int, widths: int) -> Codes:
    """Return the widths of every combination of decoders, shape (widths ** tasks, tasks), the last task varying fastest."""
    return np.stack(np.unravel_index(np.arange(widths**tasks), (widths,) * tasks), axis=1).astype(np.int16)


def stored_table(store: Store, job: JobId) -> ControlTable | None:
    """Return the job's control table; None where it has none, or one of other weights or of another search."""
    found = store.artifacts(job, KIND)
    if not found or found[-1].info.get("of") != subject(store, job):
        return None
    try:
        return ControlTable.load(found[-1].path)
    except Exception:
        return None  # it is gone, damaged (zip files have many ways to be so) or of another version: it can be built again


def subject(store: Store, job: JobId) -> dict[str, Any]:
    """Return what a table of the job is about: the weights, and how much the search has measured."""
    stages = store.stages(job)
    train, search = stages[Stage.TRAIN].result, stages[Stage.SEARCH].result
    return {"checkpoint": train.get("checkpoint"), "candidates": search.get("candidates"), "reused": search.get("reused")}


def _rounded_up(value: float) -> float:
    """Return a value with four digits that is not below `value`."""
    if value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / step) * step
