"""Fit a latency predictor per device to what was measured, with its error on subnets it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from hw_profiles.devices import job_device
from nas.core import DataError, FloatArray, JobId, Predictor, PredictorReport, Profile, Stage, Store
from nas.service.context import JobContext
from nas.service.latency_features import Vectorised, latency_features
from nas.service.latency_limits import check_limits
from nas.service.stages.listing import list_operators
from nas.service.transferring import KIND as TRANSFER
from nas.service.transferring import fit_transfer, predict_transfer
from nas.supernet import SpaceDefinition
from predictors import from_state, make_predictor
from predictors.operator_latency import KIND as OPERATORS
from predictors.operator_latency import Listed, OperatorLatency, held_out_operators
from predictors.quality import held_out

GAUSSIAN_PROCESS = "log_gaussian_process"
Fitted = tuple[PredictorReport, dict[str, Any]]


def fit(context: JobContext) -> None:
    """Fit one predictor per device. Three subnets are the least that a held-out error can be told from.

    Raises:
        ObjectiveError: A limit on latency is beyond the reach of even the fastest subnet.
    """
    store, job = context.store, context.job
    rows = store.profiles(job)
    qualities = {}
    for index, name in enumerate(context.spec.devices):
        device = job_device(context.spec, name).name
        own = [row for row in rows if row.device == device]
        first = [row for row in rows if row.device == job_device(context.spec, context.spec.devices[0]).name]
        target = f"latency_ms@{device}"
        store.progress(job, Stage.FIT, index, len(context.spec.devices), "predictors", target)
        listed = list_operators(context, name) if all(row.operators for row in own) else []
        report, state = best_latency(context.definition, own, target, context.spec.seed, listed)
        moved = fit_transfer(context.definition, first, own, target, context.spec.seed) if index else None
        if moved and _median_error(moved[0]) < _median_error(report):
            report, state = moved
        store.save_predictor(job, report, state)
        qualities[target] = dict(report.quality)
        error, share = report.quality["mape"], report.quality["within_10"]
        store.log(job, f"{target}: held-out error {error:.1%}, {share:.0%} within 10 % ({report.kind})")
    check_limits(context, latency_functions(context))
    store.finish(job, Stage.FIT, {"quality": qualities})


def best_latency(definition: SpaceDefinition, rows: Sequence[Profile], target: str, seed: int, listed: Listed = ()) -> Fitted:
    """Return the predictor with the smaller median held-out error, of those that the profiles allow, with its report and state.

    The operators' times, where every profile has them, else a Gaussian process on the choices.
    """
    candidates = [gaussian_process(definition, rows, target, seed)]
    if all(row.operators for row in rows):
        with suppress(DataError):  # too few graphs to tell what an operator depends on
            candidates.append(by_operators(definition, rows, target, seed, listed))
    return min(candidates, key=lambda fitted: _median_error(fitted[0]))


def gaussian_process(definition: SpaceDefinition, rows: Sequence[Profile], target: str, seed: int) -> Fitted:
    """Return a Gaussian process on the choices and the multiply-accumulates."""
    features, measured = latency_features(definition, [row.arch for row in rows]), _measured(rows)
    rng = np.random.default_rng([seed, 3])
    held = held_out(lambda: make_predictor(GAUSSIAN_PROCESS), features, measured, rng)
    predictor = make_predictor(GAUSSIAN_PROCESS)
    predictor.fit(features, measured)
    return _report(target, GAUSSIAN_PROCESS, *held), predictor.state()


def by_operators(definition: SpaceDefinition, rows: Sequence[Profile], target: str, seed: int, listed: Listed = ()) -> Fitted:
    """Return a predictor that adds up the times of an architecture's operators; `listed` are those of more architectures."""
    archs, graphs, measured = [row.arch for row in rows], [row.operators for row in rows], _measured(rows)
    held = held_out_operators(definition.space, archs, graphs, measured, np.random.default_rng([seed, 3]), listed=listed)
    predictor = OperatorLatency(definition.space)
    predictor.fit(archs, graphs, measured, listed)
    return _report(target, OPERATORS, *held), predictor.state()


def latency_functions(context: JobContext) -> dict[str, Vectorised]:
    """Return each device's predicted latency as a vectorised function of architectures."""
    return predicted_latency(context.store, context.job, context.definition)


def predicted_latency(store: Store, job: JobId, definition: SpaceDefinition) -> dict[str, Vectorised]:
    """Return what `latency_functions` returns, of a job that need not be running."""
    stored = {r.target: (r.kind, state) for r, state in store.predictors(job) if "@" in r.target}
    own = {t: latency_function(definition, kind, state) for t, (kind, state) in stored.items() if kind != TRANSFER}
    first = own.get(f"latency_ms@{job_device(store.job(job).spec, store.job(job).spec.devices[0]).name}")

    def moved(state: Mapping[str, Any]) -> Vectorised:
        assert first is not None, "the first device has a predictor of its own"
        return lambda archs: predict_transfer(definition, state, archs, first(archs))

    return own | {target: moved(state) for target, (kind, state) in stored.items() if kind == TRANSFER}


def latency_function(definition: SpaceDefinition, kind: str, state: Mapping[str, Any]) -> Vectorised:
    """Return a stored predictor as a vectorised function of architectures."""
    if kind == OPERATORS:
        operators = OperatorLatency.from_state(definition.space, state)
        return lambda archs: operators.predict(archs)[0]
    predictor: Predictor = from_state(kind, state)
    return lambda archs: predictor.predict(latency_features(definition, archs))[0]


def _median_error(report: PredictorReport) -> float:
    """Return the median relative error, which a measurement that was disturbed does not decide."""
    return float(np.median(np.abs(np.array(report.predicted) / np.array(report.truth) - 1)))


def _measured(rows: Sequence[Profile]) -> FloatArray:
    return np.array([row.latency.ms for row in rows])


def _report(target: str, kind: str, quality: dict[str, float], truth: FloatArray, predicted: FloatArray) -> PredictorReport:
    return PredictorReport(target, kind, len(truth), len(truth), quality, tuple(truth.tolist()), tuple(predicted.tolist()))
