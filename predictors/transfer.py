"""Latency on a new device from a few measurements on it and the tables of devices that were profiled before.

A device is a function of architectures. The prior over such functions is a Gaussian process whose covariance is a weighted
sum of three: the mean of the known devices, their differences, and architecture features weighted by what they matter on the
known devices. Before they enter, the tables are smoothed by regression on the features and on each other, since what one
device alone says of one architecture is mostly the noise of its measurement. Weights and noise are averaged over a grid by
their marginal likelihood with the scale integrated out (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
2.7 and 5.4). Latencies add up over operators but overheads multiply, so that a model of the latency and one of its logarithm
are averaged. Which architectures to measure follows from the prior alone, by greedy reduction of the remaining variance
(A-optimal design).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core import DataError, FloatArray
from predictors.scaling import IntArray, Scaling, checked
from predictors.warping import spread_of

WEIGHTS = [(1.0, devices, features) for devices in (0.03, 0.1, 0.3) for features in (0.03, 0.1, 0.3, 1.0)]  # of the parts
DESIGN_WEIGHTS, DESIGN_NOISE = (1.0, 0.1, 0.3), 0.1  # measurements are chosen under these
NOISES = (0.03, 0.1, 0.3)  # variance, over that of the mean of the known devices
LEVEL = 9.0  # prior variance of a constant
FREEDOM = 1.0  # degrees of freedom of the prior of the scale
PENALTY = 10.0  # of the regressions, on standardised columns
TABLE_ROWS = 2000  # that the regressions are fitted to
POOL_ROWS = 1000  # among which measurements are chosen


@dataclass(frozen=True, slots=True)
class _Prior:
    """Maps rows of standardised features and known latencies to the coordinates in which the three covariances are linear.

    Attributes:
        scaling: Of the columns (features, then latencies or their logarithms).
        mean: Row to the smoothed mean of the known devices, shape (k,).
        devices: Row to each device's smoothed difference from that mean, shape (k, devices).
        relevance: Weight of each column, shape (k,), zero for latencies.
    """

    scaling: Scaling
    mean: FloatArray
    devices: FloatArray
    relevance: FloatArray

    @classmethod
    def of(cls, table: FloatArray, known: int) -> _Prior:
        """Return the prior from rows (n, d + known) whose last columns are the known devices."""
        scaling = Scaling.of(table)
        rows = scaling.apply(table)
        own = np.flatnonzero(scaling.kept >= table.shape[1] - known)  # columns of devices
        if not len(own):
            raise DataError(
                "a known device tells architectures apart; in this table all of its latencies are equal; profile again"
            )
        features = np.setdiff1d(np.arange(rows.shape[1]), own)
        smooth = np.zeros((rows.shape[1], len(own)))
        alone = np.zeros((rows.shape[1], len(own)))
        alone[features] = _ridge(rows[:, features], rows[:, own])
        for index, column in enumerate(own):
            others = np.setdiff1d(np.arange(rows.shape[1]), [column])
            smooth[others, index] = _ridge(rows[:, others], rows[:, [column]])[:, 0]
        mean = smooth.mean(axis=1)
        devices = smooth - mean[:, None]
        relevance = np.sqrt(np.square(alone).mean(axis=1))
        return cls(
            scaling,
            mean / spread_of(rows @ mean),
            devices / _length(rows @ devices),
            relevance / _length(rows * relevance),
        )

    def parts(self, table: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the coordinates of rows: of the mean (n, 1), of the devices (n, devices), of the features (n, k)."""
        rows = self.scaling.apply(table)
        return (rows @ self.mean)[:, None], rows @ self.devices, rows * self.relevance

    def state(self) -> dict[str, Any]:
        arrays = {"mean": self.mean, "devices": self.devices, "relevance": self.relevance, "kept": self.scaling.kept}
        return {name: a.tolist() for name, a in {**arrays, "centre": self.scaling.mean, "spread": self.scaling.std}.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> _Prior:
        scaling = Scaling(
            np.array(state["kept"], dtype=np.int64), *(np.array(state[name], dtype=float) for name in ("centre", "spread"))
        )
        return cls(scaling, *(np.array(state[name], dtype=float) for name in ("mean", "devices", "relevance")))


class Transfer:
    """Predicts the latency of architectures on a new device, from their latencies on known devices and their features.

    ``transfer = Transfer(features, known_ms); chosen = transfer.choose(10)``, measure these rows on the new device,
    ``transfer.fit(transfer.rows(features, known_ms)[chosen], measured_ms)``, then predict for any rows.

    Args:
        features: Of every architecture in the table, shape (n, d).
        known_ms: Its latency on each known device, positive, shape (n, devices).

    Raises:
        DataError: The shapes do not belong together, or a latency is not positive and finite.
    """

    def __init__(self, features: FloatArray, known_ms: FloatArray) -> None:
        table = self.rows(features, known_ms)
        if len(table) < 3 or not np.isfinite(table).all() or not (known_ms > 0).all():
            raise DataError(
                f"a transfer starts from at least 3 finite rows with positive latencies; of {len(table)} rows, "
                f"{int((~np.isfinite(table)).any(axis=1).sum())} are not finite and {int((~(known_ms > 0)).any(axis=1).sum())} "
                "hold a latency that is not positive; leave them out"
            )
        self._known = known_ms.shape[1]
        some = np.unique(np.linspace(0, len(table) - 1, min(len(table), TABLE_ROWS)).astype(int))
        self._priors = [_Prior.of(_scaled(table[some], self._known, log), self._known) for log in (False, True)]
        self._table = table
        self._measured: FloatArray | None = None

    @staticmethod
    def rows(features: FloatArray, known_ms: FloatArray) -> FloatArray:
        """Return what `fit` and `predict` take, shape (n, d + devices)."""
        if features.ndim != 2 or known_ms.ndim != 2 or len(features) != len(known_ms) or known_ms.shape[1] < 1:
            raise DataError(
                f"a transfer takes features (n, d) and latencies (n, devices) of at least one known device; it got "
                f"{features.shape} and {known_ms.shape}; give one row per architecture"
            )
        return np.hstack([np.asarray(features, dtype=np.float64), np.asarray(known_ms, dtype=np.float64)])

    def choose(self, count: int, rng: np.random.Generator) -> IntArray:
        """Return the rows of the table to measure on the new device, the most telling first, shape (count,).

        Raises:
            DataError: More rows than the table has.
        """
        if not 1 <= count <= len(self._table):
            raise DataError(f"between 1 and all {len(self._table)} rows of the table can be measured; {count} were asked for")
        pool = np.sort(rng.permutation(len(self._table))[: max(POOL_ROWS, count)])
        rows = self._design_coordinates(self._table[pool])
        covariance = rows @ rows.T
        chosen: list[int] = []
        for _ in range(count):
            variance = covariance.diagonal() + DESIGN_NOISE
            gain = np.square(covariance).sum(axis=0) / variance  # how much less variance remains over the pool
            gain[chosen] = -1.0
            best = int(gain.argmax())
            chosen.append(best)
            covariance -= np.outer(covariance[:, best], covariance[best] / variance[best])
        return pool[chosen].astype(np.int64)

    def _design_coordinates(self, table: FloatArray) -> FloatArray:
        """Return coordinates (n, k) in which the mean of the prior covariances of latencies and of logarithms is linear."""
        blocks = [np.full((len(table), 1), np.sqrt(LEVEL))]
        for prior, log in zip(self._priors, (False, True), strict=True):
            parts = prior.parts(_scaled(table, self._known, log))
            blocks += [np.sqrt(0.5 * weight) * part for weight, part in zip(DESIGN_WEIGHTS, parts, strict=True)]
        return np.hstack(blocks)

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit to `rows` of shape (n, d + devices) and what was measured on the new device, in ms, shape (n,), n >= 2.

        Raises:
            DataError: The shapes do not belong together, a value is not finite, or a latency is not positive.
        """
        features, targets = checked(features, targets)
        if not ((targets > 0).all() and (features[:, -self._known :] > 0).all()):
            raise DataError(f"latencies are positive; {int((~(targets > 0)).sum())} of {len(targets)} are not; leave them out")
        self._measured, self._targets = features, targets

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation in ms, each of shape (n,), for `rows` of shape (n, d + devices)."""
        if self._measured is None:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        logs, spreads = [], []
        for prior, log in zip(self._priors, (False, True), strict=True):
            targets = np.log(self._targets) if log else self._targets
            new, seen = (_scaled(np.asarray(rows, dtype=np.float64), self._known, log) for rows in (features, self._measured))
            mean, std = _posterior(prior.parts(new), prior.parts(seen), targets)
            positive: FloatArray = np.maximum(mean, 0.5 * self._targets.min())
            logs.append(mean if log else np.log(positive))
            spreads.append(std if log else std / positive)
        centre = np.mean(logs, axis=0)
        relative = np.sqrt(np.square(spreads).mean(axis=0) + np.var(logs, axis=0))
        return np.exp(centre), np.exp(centre) * relative

    def state(self) -> dict[str, Any]:
        """Return the prior and the measurements; the tables of the known devices are not needed to predict."""
        if self._measured is None:
            raise RuntimeError("a predictor has a state after it was fitted; call fit first")
        return {
            "known": self._known,
            "priors": [prior.state() for prior in self._priors],
            "measured": self._measured.tolist(),
            "targets": self._targets.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Transfer:
        """Return the predictor whose state this is. It predicts and can be fitted again; it has no table to choose from."""
        restored = cls.__new__(cls)
        restored._known = int(state["known"])
        restored._priors = [_Prior.from_state(prior) for prior in state["priors"]]
        restored._measured, restored._targets = np.array(state["measured"], float), np.array(state["targets"], float)
        restored._table = np.empty((0, restored._measured.shape[1]))
        return restored


def _scaled(table: FloatArray, known: int, log: bool) -> FloatArray:
    """Return rows whose last columns, the latencies, are logarithms where `log`."""
    return np.hstack([table[:, :-known], np.log(table[:, -known:])]) if log else table


def _ridge(rows: FloatArray, targets: FloatArray) -> FloatArray:
    """Return weights of shape (k, m) for centred rows (n, k) and targets (n, m)."""
    return np.asarray(np.linalg.solve(rows.T @ rows + PENALTY * np.eye(rows.shape[1]), rows.T @ targets), dtype=np.float64)


def _length(coordinates: FloatArray) -> float:
    """Return the root mean square length of rows, or 1 where they are all zero."""
    length = float(np.sqrt(np.square(coordinates).sum(axis=1).mean()))
    return length if length > 1e-9 else 1.0


def _covariance(weights: tuple[float, float, float], parts: Sequence[FloatArray]) -> FloatArray:
    total: FloatArray = LEVEL + weights[0] * parts[0] + weights[1] * parts[1] + weights[2] * parts[2]
    return total


def _posterior(new: tuple[FloatArray, ...], seen: tuple[FloatArray, ...], targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation, (n,), of the mixture over the grid, from coordinates and targets (m,)."""
    unit, centre, count = spread_of(targets), float(targets.mean()), len(targets)
    standard = (targets - centre) / unit
    cross = [a @ b.T for a, b in zip(new, seen, strict=True)]
    inner = [b @ b.T for b in seen]
    prior = [np.square(a).sum(axis=1) for a in new]
    losses, means, variances = [], [], []
    for weights in WEIGHTS:
        signal = _covariance(weights, inner)
        across = _covariance(weights, cross)
        alone = _covariance(weights, prior)
        for noise in NOISES:
            lower = np.linalg.cholesky(signal + noise * np.eye(count))
            whitened = np.linalg.solve(lower, np.column_stack([standard, across.T]))
            fit = float(whitened[:, 0] @ whitened[:, 0])
            # Student's t: the scale has a scaled inverse chi-square prior with FREEDOM degrees of freedom around 1.
            losses.append(np.log(lower.diagonal()).sum() + 0.5 * (count + FREEDOM) * np.log(FREEDOM + fit))
            means.append(whitened[:, 1:].T @ whitened[:, 0])
            scale = (FREEDOM + fit) / (FREEDOM + count - 2.0)
            variances.append(scale * (np.maximum(alone - np.square(whitened[:, 1:]).sum(axis=0), 0.0) + noise))
    share = np.exp(np.min(losses) - np.array(losses))
    share /= share.sum()
    mean = share @ np.array(means)
    variance = share @ (np.array(variances) + np.square(np.array(means) - mean))
    return centre + unit * mean, unit * np.sqrt(variance)
