"""Optuna studies and samplers that propose architectures; `make_searcher` makes one by name."""

from __future__ import annotations

from collections.abc import Sequence

from nas.core import Objective, SearchSpace, UserError, nearest
from nas.search.history import Exact, HistorySearcher
from nas.search.linas import LINASSearcher
from nas.search.nsga2 import NSGA2Searcher
from nas.search.predictor import PredictorSearcher
from nas.search.random import RandomSearcher
from nas.search.study import to_optuna
from nas.search.tpe import TPESearcher

SEARCHERS: dict[str, type[HistorySearcher]] = {
    "predictor": PredictorSearcher,
    "tpe": TPESearcher,
    "nsga2": NSGA2Searcher,
    "linas": LINASSearcher,
    "random": RandomSearcher,
}


def make_searcher(
    name: str, space: SearchSpace, objectives: Sequence[Objective], seed: int, exact: Exact | None = None
) -> HistorySearcher:
    """Return a searcher.

    Args:
        name: ``predictor``, ``tpe``, ``nsga2``, ``linas`` or ``random``.
        space: What can be proposed.
        objectives: What is improved, and the limits.
        seed: Zero or more. One seed and one history give the same proposals.
        exact: Metric to a function that gives its value, of shape (n,), for n architectures: what is counted, or cheap to
            predict. The metric then need not be told, and the searcher ``predictor`` evaluates it for every candidate.

    Raises:
        UserError: No searcher has this name.
        ObjectiveError: There are no objectives.
    """
    if name not in SEARCHERS:
        raise UserError(f"a sampler is one of a few: {name!r} is none; {nearest(name, SEARCHERS)}")
    return SEARCHERS[name](space, objectives, seed, exact or {})


__all__ = ["SEARCHERS", "Exact", "make_searcher", "to_optuna"]
