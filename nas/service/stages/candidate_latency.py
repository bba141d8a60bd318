"""Latency of candidates that are files: each is measured, and what was measured corrects what is predicted of the rest.

A search that follows a prediction ends where the prediction is too good. With precisions in the architecture there are borders
that no sample of some dozens shows all of, so a candidate's own file is timed before the searcher is told of it, and every
batch mends the prediction for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hw_profiles.devices import job_device
from nas.core import ArchConfig, Evaluation, FloatArray, SearchSpace, Source
from nas.core.stopwatch import Stopwatch
from nas.service.context import JobContext
from nas.service.latency_budget import LatencyBudget
from nas.service.latency_features import Vectorised
from nas.service.pool import Pool
from nas.service.stages.fit import latency_functions
from nas.service.stages.profile import LEAST_S, profiler, reference
from predictors import make_predictor
from predictors.features import summaries

ENOUGH = 8  # measured candidates from which a correction is fitted


class CorrectedLatency:
    """A device's latency of any architecture: measured where it was, else predicted, times a correction.

    The correction is a Gaussian process of the logarithm of measured over predicted.

    Args:
        space: Of the architectures.
        predicted: The prediction to correct, in ms.
    """

    def __init__(self, space: SearchSpace, predicted: Vectorised) -> None:
        self._space, self._predicted = space, predicted
        self._measured: dict[str, tuple[ArchConfig, float]] = {}
        self._stale = False
        self._correction = make_predictor("gaussian_process")

    def learn(self, arch: ArchConfig, ms: float) -> None:
        """Take note of a measurement."""
        self._measured[arch.key] = (arch, ms)
        self._stale = True

    def __call__(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return latencies in ms, shape (n,)."""
        found = np.asarray(self._predicted(archs), dtype=float)
        if len(self._measured) >= ENOUGH:
            if self._stale:
                self._fit()
            found = found * np.exp(self._correction.predict(self._features(archs))[0])
        known = [self._measured.get(arch.key) for arch in archs]
        return np.array([row[1] if row else ms for row, ms in zip(known, found.tolist(), strict=True)])

    def _fit(self) -> None:
        archs = [arch for arch, _ in self._measured.values()]
        measured = np.array([ms for _, ms in self._measured.values()])
        self._correction.fit(self._features(archs), np.log(measured / self._predicted(archs)))
        self._stale = False

    def _features(self, archs: Sequence[ArchConfig]) -> FloatArray:
        encoded = self._space.encode(archs)
        return np.hstack([encoded, encoded @ summaries(self._space)])


class CandidateTimer:
    """Times the files of candidates on every device of a job.

    Args:
        context: Of the job.
        told: Evaluations of a former run of the search, whose latencies are not measured again.

    Attributes:
        latencies: Metric to the latency of any architecture, which improves as candidates are timed.
        fingerprints: Of the devices, joined by commas, as evaluations name them.
    """

    def __init__(self, context: JobContext, told: Sequence[Evaluation]) -> None:
        names = {f"latency_ms@{job_device(context.spec, name).name}": name for name in context.spec.devices}
        space = context.definition.space
        self.latencies = {metric: CorrectedLatency(space, f) for metric, f in latency_functions(context).items()}
        self._pools: dict[str, Pool] = {}
        self._budget = LatencyBudget((context.spec.search.evaluations - len(told)) * len(names), LEAST_S)
        fingerprints = []
        for metric, name in names.items():
            fingerprint, reference_ms = reference(context, name)
            fingerprints.append(fingerprint.key)
            self._pools[metric] = Pool(lambda n=name, ms=reference_ms: profiler(context, n, ms), 1, context.check)  # type: ignore[misc]
        self.fingerprints = ",".join(fingerprints)
        for row in told:
            if row.source is Source.MEASURED and not row.failure:
                self._learn(row.arch, row.metrics)

    def timed(self, arch: ArchConfig, result: Any) -> Any:
        """Return the metrics of an evaluated file with its latencies; what failed stays as it is.

        Args:
            arch: The candidate.
            result: Metrics and the file, or an exception.
        """
        if isinstance(result, Exception):
            return result
        metrics, content = result
        watch = Stopwatch()
        for metric, pool in self._pools.items():
            with watch.part("latency"), self._budget.next() as seconds:
                ((_, latency),) = pool.run("measure", [content], False, seconds)
            if isinstance(latency, Exception):
                return latency
            metrics = metrics | {metric: latency.ms}
        self._learn(arch, metrics)
        return metrics | watch.named()

    def close(self) -> None:
        """End the workers."""
        for pool in self._pools.values():
            pool.close()

    def _learn(self, arch: ArchConfig, metrics: Mapping[str, float]) -> None:
        for metric, latency in self.latencies.items():
            latency.learn(arch, metrics[metric])
