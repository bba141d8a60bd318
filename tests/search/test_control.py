"""Control after training on random tables: what holds by construction, and the answer against a search by brute force."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from nas.core import Choice, Codes, FloatArray, Objective, ObjectiveError, SearchSpace
from nas.core.control import ControlTable, Cost, vectors
from nas.core.uniformity import uniformity
from nas.search.codes import Coder
from nas.search.control import choose_steps, sample_preferences, step_functions
from nas.search.controllability import controllability, uniform_subnets
from nas.search.encoders import choose_encoders

TASKS = ("seg", "depth", "normals")
WIDTHS = (0.25, 0.5, 1.0)
OPTIONS = (0.25, 0.5, 0.75, 1.0)
TABLES = 6


@cache
def table(seed: int) -> ControlTable:
    """Sixteen encoders with random errors; latency grows with every width, but for noise; even seeds have kinder errors."""
    rng = np.random.default_rng(seed)
    encoders = np.array(list(product(range(4), repeat=2)), dtype=np.int16)
    combinations = vectors(3, 3)
    size = encoders.sum(axis=1) / 6
    errors = 1 + rng.random((3, 16, 3)) * (0.05 if seed % 2 == 0 else 1.0)
    errors += (1 - size)[:, None] + 0.3 * np.arange(3)[::-1] * rng.random((3, 1, 1))
    errors *= rng.uniform(0.1, 50, (3, 1, 1))  # metres and degrees
    ms = (1 + 4 * size)[:, None] * rng.uniform(0.9, 1.1, (16, 1)) + (combinations * rng.uniform(0.1, 0.6, 3)).sum(axis=1)
    largest = errors[:, -1, -1]
    costs = {"latency_ms@local": Cost(ms, 0.07, 0.03), "macs": Cost(1e6 * ms.round(1))}
    steps = {name: choose_steps(errors / largest[:, None, None], cost, rng) for name, cost in costs.items()}
    choices = tuple((f"encoder.{i}.width", OPTIONS) for i in range(2))
    return ControlTable(TASKS, WIDTHS, choices, encoders, errors, largest, np.full(3, 0.02), costs, steps, "feed")


def preference(weights: list[float]) -> dict[str, float]:
    return dict(zip(TASKS, weights, strict=True))


def budget(made: ControlTable, share: float, metric: str = "latency_ms@local") -> Objective:
    low, high = made.range_of(metric)
    return Objective(metric, "min", low + share * (high - low))


SEEDS = st.integers(0, TABLES - 1)
SHARES = st.floats(0, 1.2)
WEIGHTS = st.lists(st.integers(0, 12).map(float) | st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0)


@given(SEEDS, SHARES, WEIGHTS)
@settings(max_examples=80, deadline=None)
def test_decoders_follow_preferences(seed: int, share: float, weights: list[float]) -> None:
    made = table(seed)
    widths = made.decoders(budget(made, share), preference(weights))
    for i, j in product(range(3), repeat=2):
        assert weights[i] < weights[j] or widths[i] >= widths[j]  # so equal preferences have equal decoders
    assert all(width == 0 for width, weight in zip(widths, weights, strict=True) if weight == 0)
    for i in range(3):
        raised = [weight + (0.37 * (1 + weight) if i == j else 0) for j, weight in enumerate(weights)]
        assert made.decoders(budget(made, share), preference(raised))[i] >= widths[i]


@given(SEEDS, SHARES, WEIGHTS, st.sampled_from(["latency_ms@local", "macs"]))
@settings(max_examples=60, deadline=None)
def test_the_answer_is_the_best_encoder_that_keeps_the_budget(
    seed: int, share: float, weights: list[float], metric: str
) -> None:
    made = table(seed)
    bound = budget(made, share, metric)
    assert bound.limit is not None
    picked = made.control(bound, preference(weights))
    assert picked.most[metric] <= bound.limit
    assert picked.metrics[metric] <= picked.most[metric]
    # Brute force, over plain Python numbers.
    widths = made.decoders(bound, preference(weights))
    column = [tuple(row) for row in vectors(3, 3).tolist()].index(widths)
    scores = {}
    for encoder in range(16):
        errors = [float(made.errors[t, encoder, widths[t]]) / float(made.largest[t]) for t in range(3)]
        if float(made.costs[metric].predicted[encoder, column]) * (1 + made.costs[metric].margin) <= bound.limit:
            scores[encoder] = sum(w / sum(weights) * e for w, e in zip(weights, errors, strict=True))
    assert picked.score == pytest.approx(min(scores.values()))
    assert [picked.arch[f"decoder.{t}.width"] for t in TASKS] == [WIDTHS[n] for n in widths]
    best = min(scores, key=lambda encoder: scores[encoder])
    assert picked.metrics["error.depth"] == pytest.approx(float(made.errors[1, best, widths[1]]))
    assert picked.std["error.depth"] == pytest.approx(0.02 * picked.metrics["error.depth"])


@given(SEEDS, SHARES, st.floats(0, 0.5), WEIGHTS)
@settings(max_examples=80, deadline=None)
def test_a_wider_budget_narrows_no_decoder_and_loses_nothing_between_two_steps(
    seed: int, share: float, more: float, weights: list[float]
) -> None:
    made = table(seed)
    small, large = budget(made, share), budget(made, share + more)
    before, after = (made.decoders(bound, preference(weights)) for bound in (small, large))
    assert all(b >= a for a, b in zip(before, after, strict=True))
    if before == after:
        scores = [made.control(bound, preference(weights)).score for bound in (small, large)]
        assert scores[1] <= scores[0] + 1e-9


@pytest.mark.parametrize("seed", range(TABLES))
def test_a_wider_budget_loses_nothing_for_any_preference_that_was_sampled(seed: int) -> None:
    made = table(seed)
    lattice = [row.tolist() for row in sample_preferences(3, np.random.default_rng(0))[:231]]  # the rest is random
    for weights in lattice[::7]:
        scores = [made.control(budget(made, share), preference(weights)).score for share in np.linspace(0, 1.1, 40)]
        assert (np.diff(scores) <= 1e-8).all()


def test_steps_widen_where_it_pays_and_never_where_it_does_not() -> None:
    combinations = vectors(2, 2)
    size = np.linspace(0, 1, 9)
    ms = 1 + 4 * size[:, None] + combinations.sum(axis=1)
    rng = np.random.default_rng(0)
    # The decoder is worth more than any encoder: it is wide from the first budget that allows it for the one task.
    precious = np.stack([np.stack([2 - 0.1 * size, 1 - 0.1 * size], axis=1)] * 2)
    steps = choose_steps(precious, Cost(ms), rng)
    widened = np.isfinite(steps.thresholds[:, 0])
    assert widened[steps.budgets >= 3].all()
    assert not widened[steps.budgets < 2].any()
    assert steps.regret < 0.05
    # The wide decoder is worse: it is never used, which loses nothing.
    useless = np.stack([np.stack([2 - size, 2.5 - size], axis=1)] * 2)
    steps = choose_steps(useless, Cost(ms), rng)
    assert np.isinf(steps.thresholds).all()
    assert steps.regret == pytest.approx(0)


@pytest.mark.parametrize("widths", [2, 3, 4, 6])
def test_step_functions_ascend_and_lie_off_round_numbers(widths: int) -> None:
    functions = step_functions(widths)
    assert functions.shape[1] == widths - 1
    assert (functions[:, 1:] >= functions[:, :-1]).all()
    assert len(np.unique(functions, axis=0)) == len(functions) <= 4000
    assert (functions > 0).all()
    assert np.isinf(functions[-1]).all()


def test_preferences_lie_on_the_simplex_with_its_corners_and_centre() -> None:
    for tasks in (1, 2, 3, 5):
        rows = sample_preferences(tasks, np.random.default_rng(0))
        assert rows.sum(axis=1) == pytest.approx(1)
        assert (rows >= 0).all()
        for wanted in (*np.eye(tasks), np.full(tasks, 1 / tasks)):
            assert np.isclose(rows, wanted).all(axis=1).any()


@pytest.mark.parametrize(
    ("bound", "weights", "message"),
    [
        (
            Objective("latency_ms@local", "min", 9.0),
            {"seg": -0.5, "depth": 1.0},
            r"zero or more: seg has -0.5; the nearest valid",
        ),
        (Objective("latency_ms@local", "min", 9.0), {"seg": 0.0}, "sum to more than zero"),
        (Objective("latency_ms@local", "min", 9.0), {"dept": 1.0}, "did you mean 'depth'"),
        (Objective("latency_ms@lcal", "min", 9.0), {"seg": 1.0}, "did you mean 'latency_ms@local'"),
        (Objective("latency_ms@local", "max", 9.0), {"seg": 1.0}, "a budget is an upper bound"),
        (Objective("latency_ms@local"), {"seg": 1.0}, "a budget is an upper bound"),
    ],
)
def test_what_cannot_be_read_is_said(bound: Objective, weights: dict[str, float], message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        table(0).control(bound, weights)


def test_a_budget_below_the_smallest_subnet_names_the_nearest_that_is_valid() -> None:
    made = table(0)
    with pytest.raises(ObjectiveError, match="nearest valid budget is") as raised:
        made.control(Objective("latency_ms@local", "min", 0.3), {"seg": 1.0})
    named = float(str(raised.value).rsplit(" ", 1)[1])
    assert named == pytest.approx(made.range_of("latency_ms@local")[0], rel=1e-3)
    assert made.control(Objective("latency_ms@local", "min", named), {"seg": 1.0}).most["latency_ms@local"] <= named


def test_a_table_is_the_same_after_its_file(tmp_path: Path) -> None:
    made = table(1)
    made.save(tmp_path / "control.npz")
    again = ControlTable.load(tmp_path / "control.npz")
    for field in dataclasses.fields(ControlTable):
        before, after = getattr(made, field.name), getattr(again, field.name)
        if field.name in ("costs", "steps"):
            assert before.keys() == after.keys()
            pairs = [(dataclasses.astuple(before[name]), dataclasses.astuple(after[name])) for name in before]
            assert all(np.array_equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))
        else:
            assert np.array_equal(before, after) if isinstance(before, np.ndarray) else before == after
    assert made.control(budget(made, 0.5), {"seg": 1.0}) == again.control(budget(again, 0.5), {"seg": 1.0})


def test_uniformity_against_published_arithmetic_and_scipy() -> None:
    assert uniformity(np.array([0.2, 0.3, 0.5]), np.ones(3)) == pytest.approx(0.93104, abs=1e-5)
    assert uniformity(np.array([0.5, 0.3, 0.2]), np.array([0.4, 2 / 3, 1.0])) == pytest.approx(1.0, abs=1e-5)
    assert uniformity(np.array([1.0, 0.0]), np.array([3.0, 2.0])) == pytest.approx(1 - np.log(2))
    rng = np.random.default_rng(0)
    preferences, losses = rng.dirichlet(np.ones(4), 10), rng.uniform(0.1, 3, (10, 4))
    products = preferences * losses
    expected = [1 - entropy(row / row.sum(), np.full(4, 0.25)) for row in products]
    assert uniformity(preferences, losses) == pytest.approx(expected)


def test_controllability_is_that_of_the_answers() -> None:
    made = table(0)
    found = controllability(made, budget(made, 0.6), np.random.default_rng(3))
    preferences = np.random.default_rng(3).dirichlet(np.ones(3), 20)
    picked = [made.control(budget(made, 0.6), preference(row.tolist())) for row in preferences]
    assert found.score[0] == pytest.approx(np.mean([one.score for one in picked]))
    losses = np.array([[one.metrics[f"error.{t}"] for t in TASKS] for one in picked]) / made.largest
    reference = made.errors[:, 0, 0] / made.largest
    # The dominated volume by counting random points.
    points = losses.min(axis=0) + np.random.default_rng(0).random((40_000, 3)) * (reference - losses.min(axis=0))
    inside = (losses[:, None] <= points).all(axis=-1).any(axis=0).mean()
    assert found.hypervolume[0] == pytest.approx(inside * np.prod(reference - losses.min(axis=0)), rel=0.03)
    uniform = uniform_subnets(made)
    assert [(made.encoders[e].tolist(), width) for e, width in uniform] == [([0, 0], 0), ([1, 1], 1), ([3, 3], 2)]


def test_of_too_many_encoders_those_that_win_are_kept() -> None:
    space = SearchSpace("many", [Choice(f"encoder.{i}.width", OPTIONS) for i in range(6)])
    coder = Coder(space)
    gains = np.random.default_rng(0).uniform(0.05, 0.3, (2, 6))
    prices = np.random.default_rng(1).uniform(0.5, 2, 6)

    def predicted(codes: Codes, combination: int) -> tuple[FloatArray, FloatArray]:
        return 3 - gains @ np.sqrt(codes.T), (1 + codes @ prices + combination)[None]

    middle = np.full((1, 6), 2, dtype=np.int16)
    kept = choose_encoders(coder, {}, [space.largest()], predicted, 9, 300, middle, np.random.default_rng(0))
    every = choose_encoders(coder, {}, [], predicted, 9, 4096, middle, np.random.default_rng(0))
    assert len(every) == space.count() == len(np.unique(every, axis=0))
    assert 2 <= len(kept) <= 300
    for ends in (np.zeros(6), np.full(6, 3), middle[0]):
        assert (kept == ends).all(axis=1).any()
    for weights in ([1.0, 0.0], [0.5, 0.5], [0.2, 0.8]):
        for most in (5.0, 9.0, 15.0):
            best = []
            for codes in (kept, every):
                errors, costs = predicted(codes, 0)
                best.append(float((weights @ errors)[costs[0] <= most].min()))
            assert best[0] <= 1.02 * best[1]


def test_fixed_choices_keep_their_option() -> None:
    space = SearchSpace("mixed", [Choice("encoder.0.width", OPTIONS), Choice("precision.a", ("int8", "fp32"))])
    coder = Coder(space)
    found = choose_encoders(
        coder, {"precision.a": "fp32"}, [], lambda c, k: (c.T[:1], c.T[:1]), 2, 50, coder.encode([]), np.random.default_rng(0)
    )
    assert [dict(arch)["precision.a"] for arch in coder.decode(found)] == ["fp32"] * 4
