"""A job as the file that would ask for it again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml

from nas.core import JobSpec


def info(spec: JobSpec) -> dict[str, Any]:
    """Return the job file's mapping: what is unset is left out, a task of weight one is its name."""
    job: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in _set(asdict(spec)).items()
    }
    job.pop("targets", None)  # what the names of the devices meant when the job was made
    job["tasks"] = [task.name if task.weight == 1.0 else asdict(task) for task in spec.tasks]
    job["objectives"] = [_set(asdict(each)) for each in spec.objectives]
    if spec.training.reuse is not None:  # the recipe is that of the job whose supernet it is
        job["training"] = {name: job["training"][name] for name in ("reuse", "twins", "device")}
    return job


def draw(job: dict[str, Any]) -> str:
    """Return the mapping as YAML."""
    text: str = yaml.safe_dump(job, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


def _set(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _set(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in kept.items() if value is not None and value != {}}
