"""What `nas.core.Searcher` promises, for every searcher."""

from __future__ import annotations

from functools import partial
from itertools import chain

import numpy as np
import pytest
from search_problems import COST, ERROR, OBJECTIVES, SINGLE, TWELVE, evaluate, exact_cost, random_space, staged

from nas.core import (
    ArchConfig,
    ArchError,
    Evaluation,
    Objective,
    ObjectiveError,
    Searcher,
    SearchSpace,
    Source,
    UserError,
    hypervolume,
)
from nas.search import SEARCHERS, make_searcher

LIMITS = (Objective(COST.metric, "min", 12.0), Objective(ERROR.metric, "min", 0.25))
every_searcher = pytest.mark.parametrize("name", SEARCHERS)


def run(searcher: Searcher, space: SearchSpace, evaluations: int, batch: int) -> list[ArchConfig]:
    done: list[ArchConfig] = []
    while len(done) < evaluations:
        asked = searcher.ask(min(batch, evaluations - len(done)))
        if not asked:
            break
        searcher.tell(evaluate(space, asked))
        done += asked
    return done


def searcher_for(name: str, space: SearchSpace, seed: int = 0, objectives: tuple[Objective, ...] = OBJECTIVES) -> Searcher:
    return make_searcher(name, space, objectives, seed, {COST.metric: partial(exact_cost, space)})


@every_searcher
@pytest.mark.parametrize("space", [TWELVE, SINGLE], ids=lambda space: space.name)
def test_small_spaces_are_searched_to_the_last_architecture_and_then_no_more(name: str, space: SearchSpace) -> None:
    searcher = searcher_for(name, space)
    done = run(searcher, space, 1000, batch=5)
    assert len(done) == space.count()
    assert {arch.key for arch in done} == {arch.key for arch in space.enumerate()}
    assert searcher.ask(3) == []


@every_searcher
@pytest.mark.parametrize("seed", range(6))
def test_proposals_are_canonical_and_never_repeat_on_random_conditional_spaces(name: str, seed: int) -> None:
    space = random_space(seed)
    evaluations = min(40, space.count())
    done = run(searcher_for(name, space, seed), space, evaluations, batch=7)
    assert len({arch.key for arch in done}) == len(done) == evaluations
    assert all(space.arch(arch).key == arch.key for arch in done)


@every_searcher
def test_what_was_proposed_but_not_told_is_not_proposed_again(name: str) -> None:
    searcher = searcher_for(name, TWELVE)
    asked = list(chain.from_iterable(searcher.ask(5) for _ in range(4)))
    assert len(asked) == len({arch.key for arch in asked}) == 12


@every_searcher
def test_one_seed_and_one_history_give_the_same_proposals_and_another_seed_others(name: str) -> None:
    space = staged()
    runs = [run(searcher_for(name, space, seed), space, 34, batch=8) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@every_searcher
def test_a_resumed_searcher_goes_on_as_one_that_never_stopped(name: str) -> None:
    space = staged()
    continued = searcher_for(name, space)
    done = run(continued, space, 40, batch=8)
    resumed = searcher_for(name, space)
    resumed.tell(evaluate(space, done))
    assert resumed.ask(8) == continued.ask(8)


@every_searcher
def test_failed_and_nan_evaluations_are_never_proposed_again_and_teach_nothing(name: str) -> None:
    archs = list(TWELVE.enumerate())
    bad = [
        Evaluation(archs[0], {}, Source.MEASURED, "search", failure="out of memory"),
        Evaluation(archs[1], {ERROR.metric: float("nan")}, Source.MEASURED, "search"),
        Evaluation(archs[2], {COST.metric: 1.0}, Source.MEASURED, "search"),
        Evaluation(archs[3], {ERROR.metric: float("inf")}, Source.MEASURED, "search"),
    ]
    searcher = searcher_for(name, TWELVE)
    searcher.tell(bad)
    assert {arch.key for arch in run(searcher, TWELVE, 100, 3)} == {arch.key for arch in archs[4:]}


@every_searcher
def test_failures_everywhere_do_not_stop_a_search(name: str) -> None:
    space = staged()
    searcher = searcher_for(name, space)
    for _ in range(4):
        asked = searcher.ask(10)
        assert len(asked) == 10
        searcher.tell([Evaluation(arch, {}, Source.MEASURED, "search", failure="worker died") for arch in asked])


@every_searcher
def test_evaluations_from_elsewhere_are_learned_from_and_not_proposed(name: str) -> None:
    space, rng = staged(), np.random.default_rng(1)
    elsewhere = [space.sample(rng) for _ in range(30)]
    searcher = searcher_for(name, space)
    searcher.tell(evaluate(space, elsewhere))
    assert not {arch.key for arch in searcher.ask(20)} & {arch.key for arch in elsewhere}


@every_searcher
def test_an_architecture_of_another_space_is_refused_by_name(name: str) -> None:
    searcher = searcher_for(name, TWELVE)
    with pytest.raises(ArchError, match="'fixed' is no choice"):
        searcher.tell(evaluate(SINGLE, [SINGLE.smallest()]))


def final_volume(name: str, seed: int) -> float:
    space = staged()
    done = run(searcher_for(name, space, seed), space, 60, batch=10)
    values = np.array([[row.metrics[o.metric] for o in OBJECTIVES] for row in evaluate(space, done)])
    return hypervolume(values, np.array([1.0, 50.0]))


@pytest.mark.parametrize(("name", "factor"), [("predictor", 1.3), ("tpe", 1.2), ("nsga2", 1.18)])
def test_a_search_beats_random_search_after_60_evaluations(name: str, factor: float) -> None:
    seeds = range(3)
    assert np.mean([final_volume(name, seed) for seed in seeds]) > factor * np.mean(
        [final_volume("random", seed) for seed in seeds]
    )


@pytest.mark.parametrize("name", ["predictor", "tpe", "nsga2"])
@pytest.mark.parametrize(
    "limit", [Objective(COST.metric, "min", 12.0), Objective(ERROR.metric, "min", 0.25)], ids=lambda o: o.metric
)
def test_a_limit_that_random_search_rarely_meets_is_met_in_time(name: str, limit: Objective) -> None:
    space = staged()
    objectives = tuple(limit if o.metric == limit.metric else o for o in OBJECTIVES)

    def met(which: str) -> int:
        done = run(searcher_for(which, space, 0, objectives), space, 64, batch=8)
        return sum(limit.violation(row.metrics[limit.metric]) <= 0 for row in evaluate(space, done[32:]))

    assert met(name) > 1.5 * met("random") + 2


@every_searcher
def test_a_maximised_objective_is_maximised(name: str) -> None:
    """Minus the error to maximise and the error to minimise are one problem: the same seed leads to the same proposals."""
    space = staged()
    accuracy = Objective("accuracy.toy", "max", -0.5)
    error = Objective(ERROR.metric, "min", 0.5)
    ours, theirs = (make_searcher(name, space, (first, COST), 0) for first in (accuracy, error))
    for _ in range(4):
        asked = ours.ask(8)
        assert asked == theirs.ask(8)
        rows = evaluate(space, asked)
        theirs.tell(rows)
        better = [{accuracy.metric: -row.metrics[ERROR.metric], COST.metric: row.metrics[COST.metric]} for row in rows]
        ours.tell([Evaluation(row.arch, metrics, row.source, "search") for row, metrics in zip(rows, better, strict=True)])


@every_searcher
def test_four_objectives_and_a_constant_one_are_no_obstacle(name: str) -> None:
    space = staged(3)
    objectives = (*OBJECTIVES, Objective("error.other"), Objective("params"))
    searcher = make_searcher(name, space, objectives, 0)
    for _ in range(4):
        rows = evaluate(space, searcher.ask(8))
        extra = [row.metrics | {"error.other": row.metrics[ERROR.metric] ** 2, "params": 3.0} for row in rows]
        searcher.tell([Evaluation(row.arch, metrics, row.source, "search") for row, metrics in zip(rows, extra, strict=True)])
    assert len(searcher.ask(8)) == 8


@pytest.mark.parametrize("name", ["predictor", "tpe", "nsga2"])
def test_a_search_starts_with_the_smallest_and_the_largest_and_covers_the_sizes_between(name: str) -> None:
    space = staged()
    costs = exact_cost(space, make_searcher(name, space, OBJECTIVES, 0).ask(16))
    assert costs[0] == exact_cost(space, [space.smallest()])[0]
    assert costs[1] == exact_cost(space, [space.largest()])[0]
    low, high = costs[:2]
    thirds = np.histogram(costs[2:], bins=3, range=(low, high))[0]
    assert thirds.min() >= 2


def test_unknown_names_and_missing_objectives_are_explained() -> None:
    with pytest.raises(UserError, match="did you mean 'tpe'"):
        make_searcher("tpee", TWELVE, OBJECTIVES, 0)
    with pytest.raises(ObjectiveError, match="at least one objective"):
        make_searcher("tpe", TWELVE, (), 0)
