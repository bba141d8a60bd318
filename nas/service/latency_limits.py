"""Limits on latency that no network can keep: said as soon as latency can be predicted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas.core import Objective, ObjectiveError, PredictorReport
from nas.service.context import JobContext
from nas.service.latency_features import Vectorised

SAMPLES = 512  # random subnets looked at besides the smallest and the profiled ones
INTERVAL = 0.9


def check_limits(context: JobContext, functions: Mapping[str, Vectorised]) -> None:
    """Compare the limits with the fastest subnet there is.

    Args:
        context: Of the job.
        functions: Metric to what predicts it.

    Raises:
        ObjectiveError: Even the fastest subnet is predicted beyond a limit, by more than nine of ten held-out predictions
            were wrong.
    """
    reports = {report.target: report for report, _ in context.store.predictors(context.job)}
    for objective in context.spec.objectives:
        if objective.limit is not None and objective.metric in functions:
            _check(context, objective, functions[objective.metric], reports[objective.metric])


def _check(context: JobContext, objective: Objective, latency_ms: Vectorised, report: PredictorReport) -> None:
    store, job, space = context.store, context.job, context.definition.space
    profiled = [row for row in store.profiles(job) if row.device == objective.device]
    rng = np.random.default_rng([context.spec.seed, 5])
    archs = [space.smallest(), *(row.arch for row in profiled), *(space.sample(rng) for _ in range(SAMPLES))]
    measured_ms = min((row.latency.ms for row in profiled), default=np.inf)
    predicted_ms = float(np.min(latency_ms(archs)))
    truth, predicted = np.array(report.truth), np.array(report.predicted)
    error = float(np.quantile(np.abs(truth / predicted - 1), INTERVAL)) if len(truth) else 0.0
    fastest_ms = min(measured_ms, predicted_ms * (1 - error))
    if objective.violation(fastest_ms) > 0:
        near = min(measured_ms, predicted_ms)
        raise ObjectiveError(
            f"a limit can be met by some network: none keeps {objective.metric}<={objective.limit:.12g}; the fastest takes "
            f"{near:.4g} ms (measured, or predicted within {error:.0%} for nine of ten held-out subnets); loosen the limit"
        )
