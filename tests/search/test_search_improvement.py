"""Greedy hypervolume and survival, against exact hypervolumes and exhaustive choices."""

from __future__ import annotations

import numpy as np
import pytest

from nas.core import hypervolume, pareto_mask
from nas.search.improvement import (
    SAMPLES,
    chebyshev_survivors,
    expected_improvement,
    greedy_hypervolume,
    open_points,
)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_each_choice_adds_about_the_most_that_any_candidate_could(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    candidates, front = rng.random((60, objectives)), 0.4 + 0.6 * rng.random((8, objectives))
    reference = np.full(objectives, 1.1)
    chosen = greedy_hypervolume(candidates, front, reference, 5, rng)
    assert len(set(chosen)) == 5
    held = front
    for index in chosen:
        volumes = [hypervolume(np.vstack([held, row]), reference) for row in candidates]
        gain, best = volumes[index] - hypervolume(held, reference), max(volumes) - hypervolume(held, reference)
        assert gain >= best - 4 * np.sqrt(best * np.prod(reference) / SAMPLES)  # standard errors of the estimate
        held = np.vstack([held, candidates[index]])


def test_nothing_is_chosen_that_adds_nothing() -> None:
    rng = np.random.default_rng(0)
    front, reference = np.array([[0.1, 0.1]]), np.array([1.0, 1.0])
    assert greedy_hypervolume(np.array([[0.2, 0.2], [2.0, 0.0]]), front, reference, 2, rng) == []
    assert greedy_hypervolume(np.array([[0.2, 0.2], [0.05, 0.5], [0.05, 0.5]]), front, reference, 3, rng) == [1]
    assert greedy_hypervolume(np.empty((0, 2)), front, reference, 2, rng) == []


def test_survivors_are_the_front_and_keep_the_limits_first() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, 2))
    kept = chebyshev_survivors(values, np.zeros(300), 40, rng)
    assert len(set(kept.tolist())) == len(kept)
    assert {int(values[:, 0].argmin()), int(values[:, 1].argmin())} <= set(kept.tolist())
    assert pareto_mask(values)[kept[:5]].all()
    violation = np.where(np.arange(300) < 100, 0.0, 1.0)
    assert (chebyshev_survivors(values, violation, 40, rng) < 100).all()


def test_without_uncertainty_the_expected_improvement_is_the_improvement() -> None:
    rng = np.random.default_rng(4)
    candidates, front, reference = rng.random((40, 2)), 0.4 + 0.6 * rng.random((6, 2)), np.full(2, 1.1)
    points = open_points(front, np.zeros(2), reference, SAMPLES, rng)
    assert not (front[:, None] <= points[None]).all(axis=2).any()
    better = (candidates[:, None] <= points[None]).all(axis=2).astype(np.float32)
    held = front
    for index in expected_improvement(better, 4):
        volumes = [hypervolume(np.vstack([held, row]), reference) for row in candidates]
        assert volumes[index] - hypervolume(held, reference) >= max(volumes) - hypervolume(held, reference) - 0.02
        held = np.vstack([held, candidates[index]])


def test_expected_improvement_of_one_objective_is_the_closed_form() -> None:
    """E[max(0, best - Y)] = (best - mean) Φ(z) + std φ(z) with z = (best - mean) / std (Jones et al., 1998)."""
    from scipy.stats import norm

    mean, std, best, low = np.array([0.3, 0.6, 0.7]), np.array([0.05, 0.2, 0.02]), 0.5, -1.0
    points = open_points(np.array([[best]]), np.array([low]), np.array([2.0]), SAMPLES, np.random.default_rng(0))
    gains = norm.cdf((points[:, 0] - mean[:, None]) / std[:, None]).mean(axis=1) * (best - low)
    z = (best - mean) / std
    assert gains == pytest.approx((best - mean) * norm.cdf(z) + std * norm.pdf(z), abs=0.016)  # four standard errors
    assert expected_improvement(norm.cdf((points[:, 0] - mean[:, None]) / std[:, None]).astype(np.float32), 1) == [0]
