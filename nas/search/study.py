"""Architectures and evaluations as Optuna trials."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.core import ArchConfig, Evaluation, FloatArray, Objective, ObjectiveError, SearchSpace


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from logging every study that is made, and restore its level."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def directions(objectives: Sequence[Objective]) -> list[Literal["minimize", "maximize"]]:
    """Return Optuna's name of each objective's direction."""
    return ["minimize" if objective.direction == "min" else "maximize" for objective in objectives]


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return one categorical distribution per choice."""
    return {choice.name: CategoricalDistribution(choice.options) for choice in space.choices}


def filled(space: SearchSpace, arch: ArchConfig) -> dict[str, Any]:
    """Return a pick for every choice; those of inactive choices are drawn from the architecture's own key.

    Optuna's samplers model together only the parameters that every trial has, so a study to sample from has them all. The
    picks that mean nothing are random, which keeps them from looking good or bad.
    """
    rng = np.random.default_rng(int(arch.key, 16))
    picks = {choice.name: choice.options[rng.integers(len(choice.options))] for choice in space.choices}
    return picks | dict(arch)


def constraints(objectives: Sequence[Objective], values: FloatArray) -> dict[str, float]:
    """Return by how much each limit is crossed; zero or less where it is kept."""
    return {o.metric: o.violation(float(value)) for o, value in zip(objectives, values, strict=True) if o.limit is not None}


def to_trial(
    space: SearchSpace,
    objectives: Sequence[Objective],
    arch: ArchConfig,
    values: FloatArray | None,
    system_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """Return a trial to sample from, with a pick for every choice; a running one where there are no values yet."""
    return optuna.create_trial(
        state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
        params=filled(space, arch),
        distributions=distributions(space),
        values=None if values is None else [float(value) for value in values],
        constraints=None if values is None else constraints(objectives, values),
        system_attrs=dict(system_attrs or {}),
    )


def sampling_study(objectives: Sequence[Objective]) -> optuna.Study:
    """Return an empty study in memory."""
    with quiet():
        return optuna.create_study(directions=directions(objectives))


def to_optuna(
    space: SearchSpace,
    objectives: Sequence[Objective],
    evaluations: Sequence[Evaluation],
    storage_url: str,
    study_name: str,
) -> str:
    """Write evaluations into an Optuna storage, for Optuna's dashboard, plots and importances.

    Active choices are the parameters, limits are constraints, and everything else that is known of an evaluation is a user
    attribute. A study of this name is continued: architectures that it already holds are left as they are.

    Args:
        space: Space of the evaluations.
        objectives: Become the study's directions and metric names.
        evaluations: Failed ones, and those that lack an objective, become failed trials.
        storage_url: Such as ``sqlite:///study.db``.
        study_name: Name of the study.

    Returns:
        The name of the study.

    Raises:
        ObjectiveError: A study of this name has other directions.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # set_metric_names
        study = optuna.create_study(
            storage=storage_url, study_name=study_name, directions=directions(objectives), load_if_exists=True
        )
        found = [direction.name.lower() for direction in study.directions]
        if found != directions(objectives):
            raise ObjectiveError(
                f"a study is continued with the directions it has: {study_name!r} has {found}; choose another name"
            )
        study.set_metric_names([objective.metric for objective in objectives])
    held = {trial.user_attrs.get("key") for trial in study.get_trials(deepcopy=False)}
    trials = []
    for row in evaluations:
        if row.arch.key in held:
            continue
        held.add(row.arch.key)
        values = np.array([row.metrics.get(o.metric, np.nan) for o in objectives], dtype=float)
        complete = not row.failure and bool(np.isfinite(values).all())
        trials.append(
            optuna.create_trial(
                state=TrialState.COMPLETE if complete else TrialState.FAIL,
                params=dict(row.arch),
                distributions={name: CategoricalDistribution(space[name].options) for name in row.arch},
                values=values.tolist() if complete else None,
                constraints=constraints(objectives, values) if complete else None,
                user_attrs={"key": row.arch.key, "source": row.source.value, "stage": row.stage, "split": row.split}
                | {"device": row.device, "checkpoint": row.checkpoint, "seed": row.seed, "failure": row.failure}
                | {f"metric:{name}": value for name, value in row.metrics.items()},
            )
        )
    study.add_trials(trials)
    return study_name
