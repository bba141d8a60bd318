"""What every predictor promises, over all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas.core import DataError, FloatArray, NotFoundError, Predictor
from predictors import PREDICTORS, GaussianProcess, LogGaussianProcess, from_state, make_predictor


def problem(rows: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """One-hots of six choices with three options, and a positive target that is nearly a sum over them."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(3, size=(rows, 6))
    features = np.eye(3)[picks].reshape(rows, 18)
    effects = np.linspace(0.2, 3.0, 18)
    return features, 5.0 + features @ effects + 0.05 * rng.standard_normal(rows)


@pytest.fixture(params=sorted(PREDICTORS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fitted(name: str) -> Predictor:
    predictor = make_predictor(name)
    predictor.fit(*problem(60))
    return predictor


def test_it_predicts_rows_it_never_saw(fitted: Predictor) -> None:
    features, targets = problem(200, seed=1)
    mean, std = fitted.predict(features)
    assert mean.shape == std.shape == (200,)
    # The noise alone is 0.15 of the targets' spread.
    assert np.abs(mean - targets).mean() < 0.25 * np.abs(targets - targets.mean()).mean()
    assert np.isfinite(std).all()
    assert (std > 0).all()


def test_its_intervals_hold_about_as_often_as_they_say(fitted: Predictor) -> None:
    features, targets = problem(300, seed=2)
    mean, std = fitted.predict(features)
    inside = (np.abs(mean - targets) <= 1.645 * std).mean()
    assert 0.75 <= inside <= 1.0


def test_a_state_goes_through_json_without_loss(name: str, fitted: Predictor) -> None:
    restored = from_state(name, json.loads(json.dumps(fitted.state(), allow_nan=False)))
    features, _ = problem(50, seed=3)
    for before, after in zip(fitted.predict(features), restored.predict(features), strict=True):
        np.testing.assert_array_equal(before, after)
    assert restored.state() == fitted.state()


def test_a_second_fit_forgets_the_first(name: str, fitted: Predictor) -> None:
    features, targets = problem(40, seed=4)
    fresh = make_predictor(name)
    fresh.fit(features, targets)
    fitted.fit(features, targets)
    np.testing.assert_array_equal(fitted.predict(features)[0], fresh.predict(features)[0])


def test_it_follows_the_unit_of_the_targets(name: str, fitted: Predictor) -> None:
    features, targets = problem(60)
    scaled = make_predictor(name)
    scaled.fit(features, 1000.0 * targets)
    for small, large in zip(fitted.predict(features), scaled.predict(features), strict=True):
        np.testing.assert_allclose(large, 1000.0 * small, rtol=1e-6)


def test_columns_that_never_vary_do_not_matter(name: str, fitted: Predictor) -> None:
    features, targets = problem(60)
    wider = np.hstack([features, np.full((60, 1), 7.0), np.zeros((60, 2))])
    predictor = make_predictor(name)
    predictor.fit(wider, targets)
    np.testing.assert_allclose(predictor.predict(wider)[0], fitted.predict(features)[0], rtol=1e-9)


def test_chunks_do_not_show(fitted: Predictor) -> None:
    features, _ = problem(5000, seed=5)
    np.testing.assert_allclose(fitted.predict(features)[0][4990:], fitted.predict(features[4990:])[0], rtol=1e-9)


@pytest.mark.parametrize("rows", [2, 3])
def test_a_few_rows_are_enough(name: str, rows: int) -> None:
    features, targets = problem(rows)
    predictor = make_predictor(name)
    predictor.fit(features, targets)
    mean, std = predictor.predict(problem(10, seed=6)[0])
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


def test_constant_targets_and_equal_rows_are_no_trouble(name: str) -> None:
    features, _ = problem(20)
    predictor = make_predictor(name)
    predictor.fit(features, np.full(20, 3.0))
    np.testing.assert_allclose(predictor.predict(features)[0], 3.0, rtol=1e-6)
    predictor.fit(np.ones((5, 3)), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    mean, std = predictor.predict(np.ones((1, 3)))
    assert 2.0 < mean[0] < 3.5
    assert 0.5 < std[0] < 10.0


def test_it_knows_less_away_from_the_data(name: str) -> None:
    rng = np.random.default_rng(7)
    features = rng.uniform(-1.0, 1.0, (60, 3))
    predictor = make_predictor(name)
    predictor.fit(features, 20.0 + features @ np.ones(3) + 0.05 * rng.standard_normal(60))
    std = predictor.predict(np.array([[0.0, 0.0, 0.0], [3.0, 3.0, 3.0], [9.0, 9.0, 9.0]]))[1]
    assert std[0] < std[1] < std[2]


@pytest.mark.parametrize("name", ["gaussian_process", "log_gaussian_process"], indirect=True)
def test_the_parts_of_a_prediction_agree(fitted: GaussianProcess | LogGaussianProcess) -> None:
    features, _ = problem(200, seed=8)
    mean, std = fitted.predict(features)
    latent_mean, doubt = fitted.predict_latent(features)
    np.testing.assert_array_equal(latent_mean, mean)
    np.testing.assert_allclose(fitted.predict_mean(features), mean, rtol=1e-4)
    assert (doubt < std).all()
    assert (doubt > 0.0).all()
    # Variances add up, nearly so where targets are warped.
    np.testing.assert_allclose(np.median(np.sqrt(std**2 - doubt**2)), fitted.noise_std, rtol=0.3)


def test_no_rows_give_no_predictions(fitted: Predictor) -> None:
    mean, std = fitted.predict(np.empty((0, 18)))
    assert mean.shape == std.shape == (0,)


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (np.ones((1, 3)), np.ones(1), "n >= 2"),
        (np.ones((3, 3)), np.ones(2), r"\(3, 3\) and \(2,\)"),
        (np.ones(3), np.ones(3), r"\(3,\)"),
        (np.array([[1.0], [np.nan]]), np.ones(2), "1 rows of features"),
    ],
)
def test_what_cannot_be_fitted_is_refused(name: str, features: FloatArray, targets: FloatArray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_predictor(name).fit(features, targets)


def test_infinite_targets_are_refused(name: str) -> None:
    with pytest.raises(DataError):
        make_predictor(name).fit(np.eye(3), np.array([1.0, np.inf, 2.0]))


def test_predicting_before_fitting_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match="call fit first"):
        make_predictor(name).predict(np.ones((1, 3)))
    with pytest.raises(RuntimeError, match="call fit first"):
        make_predictor(name).state()


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'gaussian_process'"):
        make_predictor("gausian_process")
    with pytest.raises(NotFoundError):
        from_state("forest", {})
