"""Candidates scored on a part of the images first: who goes on, what is stored, and how far the part is trusted."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from scipy.stats import kendalltau
from tiny_job import tiny_spec

from nas.cli.fronts import measured_front
from nas.core import ArchConfig, Evaluation, JobState, Objective, SearchSpec, Source, Stage, TrainingSpec
from nas.service import api
from nas.service.screening import agreement
from nas.service.selection import best_candidates
from nas.store import SqlStore

SPEC = tiny_spec(
    objectives=(Objective("error.seg"), Objective("macs")),  # all measured: nothing but the stage tells the kinds apart
    training=TrainingSpec(epochs=1, batch_size=8, precision="fp32"),
    search=SearchSpec("random", evaluations=5, batch_size=3, profile_samples=3, calibration_images=8, verify=1, screening=0.5),
)


def test_the_promising_half_is_evaluated_and_the_rest_is_seen(store: SqlStore) -> None:
    job = api.create(store, SPEC)
    assert api.run(store, job) is JobState.DONE
    screened, searched = store.evaluations(job, "screen"), store.evaluations(job, "search")
    assert (len(screened), len(searched)) == (10, 5)  # 6 and 3, then 4 and 2
    assert {row.split for row in screened} == {"val-part"}
    assert {row.split for row in searched} == {"val"}
    keys = [row.arch.key for row in screened]
    assert len(set(keys)) == len(keys)  # never asked for again
    for group, promoted in ((screened[:6], searched[:3]), (screened[6:], searched[3:])):
        assert {row.arch.key for row in promoted} == {a.key for a in best_candidates(group, SPEC.objectives, len(promoted), 0)}
    part = {row.arch.key: row.metrics["error.seg"] for row in screened}
    assert any(part[row.arch.key] != row.metrics["error.seg"] for row in searched)  # other images

    result = store.stages(job)[Stage.SEARCH].result["screening"]
    assert (result["share"], result["screened"], result["promoted"]) == (0.5, 10, 5)
    pairs = [(part[row.arch.key], row.metrics["error.seg"]) for row in searched]
    found = result["agreement"]["error.seg"]
    assert found["kendall_tau"] == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
    assert found["mape"] == pytest.approx(np.mean([abs(a - b) / b for a, b in pairs]))
    assert set(result["agreement"]) == {"error.seg", "error.depth"}

    record = store.job(job)
    (verified,) = store.evaluations(job, "verify")
    assert verified.arch.key in {row.arch.key for row in searched}
    assert {row.stage for row in measured_front(store, record)} == {"verify"}


def test_a_front_of_candidates_holds_none_that_was_only_screened(store: SqlStore) -> None:
    job = store.create_job(SPEC)
    good, better = ({"error.seg": value, "macs": 1.0} for value in (0.5, 0.1))
    store.add(job, [Evaluation(ArchConfig({"n": 1}), better, Source.MEASURED, "screen", "val-part")])
    store.add(job, [Evaluation(ArchConfig({"n": 2}), good, Source.MEASURED, "search", "val")])
    assert [row.arch["n"] for row in measured_front(store, store.job(job))] == [2]


def test_agreement_needs_candidates_that_have_both() -> None:
    one = [Evaluation(ArchConfig({"n": 1}), {"error.seg": 0.5}, Source.MEASURED, "screen")]
    assert agreement(one, one) == {}
    assert agreement(one, []) == {}


def test_a_task_that_was_not_measured_has_no_agreement() -> None:
    def rows(errors: list[tuple[float, float]], stage: str) -> list[Evaluation]:
        values = [{"error.seg": seg, "error.side": side} for seg, side in errors]
        return [Evaluation(ArchConfig({"n": i}), value, Source.MEASURED, stage) for i, value in enumerate(values)]

    found = agreement(
        rows([(0.5, nan), (0.4, nan), (0.3, 1.0)], "screen"), rows([(0.6, nan), (0.5, nan), (0.2, nan)], "search")
    )
    assert list(found) == ["error.seg"]
    assert found["error.seg"]["candidates"] == 3
