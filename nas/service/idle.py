"""Options of a job that change nothing as the others stand: said, as whoever wrote them expects something of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nas.core import JobSpec


def idle_options(spec: JobSpec) -> list[str]:
    """Return a sentence for each option that was given a value of its own and is not read."""
    training, search = spec.training, spec.search
    found = []
    if training.balancing != "fixed" and training.reuse is None:
        for task in spec.tasks:
            if task.weight != 1:
                found.append(
                    f"the weight {task.weight:g} of task {task.name} changes nothing under training.balancing: "
                    f"{training.balancing}; write balancing: fixed, or remove it"
                )
    if training.twin_epochs is not None and not training.twins:
        found.append("training.twin_epochs changes nothing without training.twins: true")
    if spec.executor == "local":
        for part, workers in (("training", training.workers), ("search", search.workers)):
            if workers > 1:
                found.append(f"{part}.workers: {workers} changes nothing under executor: local; write executor: ray")
    if search.sampler != "differentiable":
        found += [
            f"search.differentiable.{name} changes nothing without search.sampler: differentiable"
            for name in _given(search.differentiable)
        ]
    if not spec.quantization.search:
        found += [
            f"quantization.{name} changes nothing without quantization.search: true" for name in _given(spec.quantization)
        ]
    return found


def _given(part: Any) -> list[str]:
    """Return the names of a part's fields that have another value than their default."""
    usual = type(part)()
    return [field.name for field in fields(part) if getattr(part, field.name) != getattr(usual, field.name)]
