"""How good a predictor is on rows it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas.core import DataError, FloatArray, Predictor

STEADY_ROWS = 40  # with fewer, the deal of rows into folds decides what is found: several deals are averaged
MOST_DEALS = 5
NORMAL_90 = 1.6448536269514722  # a normal variable is within this many standard deviations with a chance of 90 %


def quality(truth: FloatArray, mean: FloatArray, std: FloatArray) -> dict[str, float]:
    """Compare predictions with what was measured.

    Args:
        truth: Measured values, shape (n,).
        mean: Predictions, shape (n,).
        std: Their standard deviations, shape (n,).

    Returns:
        ``mape``: mean absolute relative error, as a share. ``within_10``: share of rows with a relative error of at most
        10 %. ``kendall_tau`` (tau-b) and ``spearman``: rank correlations, 0 where either side is constant. ``coverage_90``:
        share of rows inside mean ± 1.645 std, which is 0.9 for an honest standard deviation.
    """
    from scipy.stats import kendalltau, spearmanr

    truth, mean, std = (np.asarray(values, dtype=np.float64) for values in (truth, mean, std))
    relative = np.abs(mean - truth) / np.maximum(np.abs(truth), 1e-12)
    ranked = len(truth) > 1 and np.ptp(truth) > 0 and np.ptp(mean) > 0
    return {
        "mape": float(relative.mean()),
        "within_10": float((relative <= 0.1).mean()),
        "kendall_tau": float(kendalltau(truth, mean).statistic) if ranked else 0.0,
        "spearman": float(spearmanr(truth, mean).statistic) if ranked else 0.0,
        "coverage_90": float((np.abs(mean - truth) <= NORMAL_90 * std).mean()),
    }


def held_out(
    make: Callable[[], Predictor], features: FloatArray, targets: FloatArray, rng: np.random.Generator, folds: int = 5
) -> tuple[dict[str, float], FloatArray, FloatArray]:
    """Cross-validate: every row is predicted by a predictor that was fitted without it, from its first choice on.

    With few rows the quality is the mean over several deals into folds, each judged alone: the mean of their predictions
    would look better than what one predictor does.

    Args:
        make: Returns a new predictor.
        features: Shape (n, d).
        targets: Shape (n,), n >= 3.
        rng: Deals the rows into folds.
        folds: Number of folds; n where there are fewer rows.

    Returns:
        The quality, the truth, shape (n,), and the predictions of the first deal, shape (n,), in the order of the rows.

    Raises:
        DataError: Fewer than three rows, so that a predictor would be fitted to one.
    """
    count = len(targets)
    if count < 3:
        raise DataError(f"cross-validation needs at least 3 rows; there are {count}; measure more subnets")
    folds = min(folds, count)
    found, predictions = [], []
    for _ in range(min(MOST_DEALS, -(-STEADY_ROWS // count)) if folds < count else 1):  # leaving one out has one deal
        fold = rng.permutation(np.arange(count) % folds)
        mean, std = np.empty(count), np.empty(count)
        for index in range(folds):
            out = fold == index
            predictor = make()
            predictor.fit(features[~out], targets[~out])
            mean[out], std[out] = predictor.predict(features[out])
        found.append(quality(targets, mean, std))
        predictions.append(mean)
    return (
        {name: float(np.mean([one[name] for one in found])) for name in found[0]},
        np.asarray(targets, dtype=np.float64),
        predictions[0],
    )
