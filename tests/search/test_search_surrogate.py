"""The surrogate against textbook formulas, written down anew and solved directly."""

from __future__ import annotations

import numpy as np
import pytest
from search_problems import random_space, staged

from nas.search.codes import Coder
from nas.search.surrogate import Surrogate
from nas.search.warp import SHARES, Warp


@pytest.mark.parametrize("share", SHARES)
def test_a_warp_is_increasing_and_its_inverse_takes_it_back(share: float) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=60), np.full(20, 0.3), 50 + 10 * rng.random(5)])
    warp = Warp.of(values, share)
    grid = np.linspace(values.min() - 5, values.max() + 5, 2000)
    assert (np.diff(warp(grid)) > 0).all()
    assert warp.inverse(warp(grid)) == pytest.approx(grid)
    inside = grid[(grid > values.min()) & (grid < values.max())]
    numeric = (warp(inside + 1e-7) - warp(inside - 1e-7)) / 2e-7
    assert np.median(np.abs(warp.slope(inside) / numeric - 1)) < 1e-5


def test_normal_scores_pull_a_tail_in_and_a_constant_is_no_obstacle() -> None:
    values = np.concatenate([np.linspace(0, 1, 96), [100.0, 200.0, 300.0, 400.0]])
    assert np.ptp(Warp.of(values, 1.0)(values)[:96]) > np.ptp(Warp.of(values, 0.0)(values)[:96]) * 50
    constant = Warp.of(np.full(7, 3.0), 0.5)
    assert constant(np.array([2.0, 3.0, 4.0])).tolist() == [-1.0, 0.0, 1.0]
    assert constant.limit(np.inf) == np.inf


@pytest.mark.parametrize("seed", [2, 5])
def test_the_posterior_is_that_of_a_gaussian_process(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = staged(3)
    coder = Coder(space)
    codes = coder.canonical(coder.sample(rng.random(70), rng))
    features = coder.features(codes)
    values = np.exp(features @ rng.normal(size=features.shape[1]) * 0.3) + 0.05 * rng.normal(size=70)
    model = Surrogate(features[:50], values[:50])
    known, new = ((part - features[:50].mean(axis=0)) * model._relevance for part in (features[:50], features[50:]))

    def covariance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        apart = ((left[:, None] - right[None]) ** 2).sum(axis=2)
        smooth = np.exp(-apart / (4 * model._length**2))
        return 1 + (1 - model._share) * left @ right.T + model._share * smooth

    targets = model.warp(values[:50])
    gain = np.linalg.solve(covariance(known, known) + model._noise * np.eye(50), covariance(known, new)).T
    mean = targets.mean() + gain @ (targets - targets.mean())
    spread = covariance(new, new) - gain @ covariance(known, new) + model._noise * np.eye(20)
    found, root = model.posterior(features[50:])
    assert found == pytest.approx(mean, abs=1e-3)  # single precision
    assert root @ root.T == pytest.approx(model._signal * spread, abs=1e-3)


def test_features_count_the_options_that_choices_share() -> None:
    for seed in range(6):
        space = random_space(seed)
        rng = np.random.default_rng(seed)
        archs = [space.sample(rng) for _ in range(10)]
        coder = Coder(space)
        counts = coder.features(coder.encode(archs))[:, space.width :]
        for arch, row in zip(archs, counts, strict=True):
            kinds: dict[tuple[object, object], int] = {}
            for choice in space.choices:
                for option in choice.options:
                    kinds.setdefault((choice.options, option), 0)
                    kinds[choice.options, option] += arch.get(choice.name) == option and choice.name in arch
            assert row.tolist() == list(kinds.values())
