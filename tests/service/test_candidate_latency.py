"""What is measured of candidates corrects what is predicted of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import ArchConfig, Choice, FloatArray, SearchSpace
from nas.service.stages.candidate_latency import ENOUGH, CorrectedLatency

SPACE = SearchSpace("cells", [Choice(f"block{i}", ("int8", "fp32")) for i in range(6)])
BORDER = 1.25  # what the prediction does not know: two neighbours of different precision take longer


def predicted(archs: Sequence[ArchConfig]) -> FloatArray:
    return np.array([2.0 + sum(option == "fp32" for option in arch.values()) for arch in archs])


def truth(archs: Sequence[ArchConfig]) -> FloatArray:
    factors = [BORDER ** float(arch["block0"] != "fp32") for arch in archs]
    return np.asarray(predicted(archs) * np.array(factors), dtype=float)


def errors(latency: CorrectedLatency, archs: Sequence[ArchConfig]) -> FloatArray:
    return np.abs(latency(archs) / truth(archs) - 1)


def test_a_few_measurements_leave_the_prediction_as_it_is_but_for_themselves() -> None:
    archs = list(SPACE.enumerate())
    latency = CorrectedLatency(SPACE, predicted)
    assert (latency(archs) == predicted(archs)).all()
    for arch in archs[: ENOUGH - 1]:
        latency.learn(arch, float(truth([arch])[0]))
    assert (latency(archs[: ENOUGH - 1]) == truth(archs[: ENOUGH - 1])).all()
    assert (latency(archs[ENOUGH:]) == predicted(archs[ENOUGH:])).all()


def test_a_bias_that_measurements_show_is_corrected_for_what_was_not_measured() -> None:
    rng = np.random.default_rng(0)
    archs = [list(SPACE.enumerate())[i] for i in rng.permutation(SPACE.count())]
    latency = CorrectedLatency(SPACE, predicted)
    before = errors(latency, archs[24:])
    for arch in archs[:24]:
        latency.learn(arch, float(truth([arch])[0]))
    assert errors(latency, archs[24:]).max() < 0.02 < before.max()
    assert errors(latency, archs[:24]).max() == 0


def test_a_right_prediction_is_left_alone() -> None:
    archs = list(SPACE.enumerate())
    latency = CorrectedLatency(SPACE, truth)
    for arch in archs[::3]:
        latency.learn(arch, float(truth([arch])[0]))
    assert errors(latency, archs).max() < 1e-6
