"""Latency on a job's further devices: a few measurements on each, and what the first device tells of the rest.

The first device's profiles are the table of a device already known. On another one, a few of the same subnets are measured,
those that tell most, and the latency of any architecture is predicted from its features and its latency on the first device.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.core import ArchConfig, FloatArray, Predictor, PredictorReport, Profile
from nas.service.latency_features import latency_features
from nas.supernet import SpaceDefinition
from predictors.quality import held_out
from predictors.transfer import Transfer

KIND = "transfer"
MEASUREMENTS = 15  # on a further device


def chosen(definition: SpaceDefinition, first: Sequence[Profile], seed: int) -> list[ArchConfig]:
    """Return the subnets to measure on a further device, of those that were measured on the first one."""
    if len(first) <= MEASUREMENTS:
        return [row.arch for row in first]
    transfer = Transfer(latency_features(definition, [row.arch for row in first]), _known_ms(first))
    rows = transfer.choose(MEASUREMENTS, np.random.default_rng([seed, 6]))
    return [first[i].arch for i in rows]


def fit_transfer(
    definition: SpaceDefinition, first: Sequence[Profile], rows: Sequence[Profile], target: str, seed: int
) -> tuple[PredictorReport, dict[str, Any]] | None:
    """Return the predictor of a further device with its report and state; None where it shares too few subnets with the first.

    Args:
        definition: What is searched.
        first: Profiles on the first device.
        rows: Profiles on the further device.
        target: The metric.
        seed: Deals the rows of the cross-validation.
    """
    known = {row.arch.key: row for row in first}
    shared = [row for row in rows if row.arch.key in known]
    if len(shared) < 3 or len(first) < 3:
        return None
    prior = Transfer(latency_features(definition, [row.arch for row in first]), _known_ms(first))

    def make() -> Predictor:
        return copy.copy(prior)  # which a fit leaves as it is

    inputs = Transfer.rows(
        latency_features(definition, [row.arch for row in shared]), _known_ms([known[row.arch.key] for row in shared])
    )
    measured = np.array([row.latency.ms for row in shared])
    quality, truth, predicted = held_out(make, inputs, measured, np.random.default_rng([seed, 3]))
    predictor = make()
    predictor.fit(inputs, measured)
    report = PredictorReport(target, KIND, len(shared), len(shared), quality, tuple(truth.tolist()), tuple(predicted.tolist()))
    return report, predictor.state()


def predict_transfer(
    definition: SpaceDefinition, state: Mapping[str, Any], archs: Sequence[ArchConfig], first_ms: FloatArray
) -> FloatArray:
    """Return latencies on a further device, shape (n,), from those on the first, shape (n,)."""
    return Transfer.from_state(state).predict(Transfer.rows(latency_features(definition, archs), first_ms[:, None]))[0]


def _known_ms(rows: Sequence[Profile]) -> FloatArray:
    return np.array([[row.latency.ms] for row in rows])
