"""Fit a latency predictor per device to what was measured, with its error on subnets it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hw_profiles.devices import load_device
from nas.core import ArchConfig, FloatArray, Predictor, PredictorReport, Stage
from nas.service.context import JobContext
from nas.supernet import SpaceDefinition
from predictors import from_state, make_predictor
from predictors.features import cost_features
from predictors.quality import held_out

KIND = "log_gaussian_process"
Vectorised = Callable[[Sequence[ArchConfig]], FloatArray]


def fit(context: JobContext) -> None:
    """Fit one predictor per device. Three subnets are the least that a held-out error can be told from."""
    store, job = context.store, context.job
    rows = store.profiles(job)
    qualities = {}
    for index, name in enumerate(context.spec.devices):
        device = load_device(name).name
        own = [row for row in rows if row.device == device]
        target = f"latency_ms@{device}"
        store.progress(job, Stage.FIT, index, len(context.spec.devices), "predictors", target)
        features = latency_features(context.definition, [row.arch for row in own])
        measured = np.array([row.latency.ms for row in own])
        rng = np.random.default_rng([context.spec.seed, 3])
        quality, truth, predicted = held_out(lambda: make_predictor(KIND), features, measured, rng)
        predictor = make_predictor(KIND)
        predictor.fit(features, measured)
        report = PredictorReport(target, KIND, len(own), len(own), quality, tuple(truth.tolist()), tuple(predicted.tolist()))
        store.save_predictor(job, report, predictor.state())
        qualities[target] = quality
        store.log(job, f"{target}: held-out error {quality['mape']:.1%}, {quality['within_10']:.0%} within 10 %")
    store.finish(job, Stage.FIT, {"quality": qualities})


def latency_features(definition: SpaceDefinition, archs: Sequence[ArchConfig]) -> FloatArray:
    """Return what a latency predictor sees of architectures, shape (n, d)."""
    return cost_features(definition.space.encode(archs), {"macs": definition.macs(archs)})


def latency_functions(context: JobContext) -> dict[str, Vectorised]:
    """Return each device's predicted latency as a vectorised function of architectures."""

    def function(predictor: Predictor) -> Vectorised:
        return lambda archs: predictor.predict(latency_features(context.definition, archs))[0]

    return {report.target: function(from_state(report.kind, state)) for report, state in context.store.predictors(context.job)}
