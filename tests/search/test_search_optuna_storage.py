"""A job's evaluations in an Optuna storage, read back with Optuna alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from search_problems import COST, ERROR, TWELVE, evaluate

from nas.core import Evaluation, Objective, ObjectiveError, Source
from nas.search import to_optuna

OBJECTIVES = (ERROR, Objective(COST.metric, "min", 4.0))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_parameters_values_constraints_and_origin_come_back(url: str) -> None:
    archs = list(TWELVE.enumerate())
    rows = evaluate(TWELVE, archs[:5])
    rows.append(Evaluation(archs[5], {}, Source.MEASURED, "search", failure="out of memory"))
    assert to_optuna(TWELVE, OBJECTIVES, rows, url, "job") == "job"
    study = optuna.load_study(study_name="job", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["FAIL"]
    assert study.metric_names == [ERROR.metric, COST.metric]
    for row, trial in zip(rows[:5], study.trials, strict=False):
        assert trial.params == dict(row.arch)
        assert trial.values == [row.metrics[ERROR.metric], row.metrics[COST.metric]]
        assert trial.constraints == {COST.metric: pytest.approx(row.metrics[COST.metric] - 4.0)}
        assert trial.user_attrs["key"] == row.arch.key
    assert study.trials[5].user_attrs["failure"] == "out of memory"
    best = [row for row in rows[:5] if row.metrics[COST.metric] <= 4.0]
    front = {t.user_attrs["key"] for t in study.best_trials}
    assert front
    assert front <= {row.arch.key for row in best}


def test_writing_twice_adds_only_what_is_new(url: str) -> None:
    rows = evaluate(TWELVE, list(TWELVE.enumerate())[:4])
    to_optuna(TWELVE, OBJECTIVES, rows[:2], url, "job")
    to_optuna(TWELVE, OBJECTIVES, rows, url, "job")
    keys = [trial.user_attrs["key"] for trial in optuna.load_study(study_name="job", storage=url).trials]
    assert keys == [row.arch.key for row in rows]


def test_a_study_with_other_directions_is_left_alone(url: str) -> None:
    to_optuna(TWELVE, OBJECTIVES, [], url, "job")
    with pytest.raises(ObjectiveError, match="choose another name"):
        to_optuna(TWELVE, (Objective("accuracy", "max"), COST), [], url, "job")


def test_optuna_keeps_its_level_of_logging(url: str) -> None:
    level = optuna.logging.get_verbosity()
    to_optuna(TWELVE, OBJECTIVES, [], url, "job")
    assert optuna.logging.get_verbosity() == level
    assert np.isfinite(level)
