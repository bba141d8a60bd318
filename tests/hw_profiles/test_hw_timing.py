"""Latency under ONNX Runtime, real sessions on this machine; bounds are wide because other work may run beside."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.devices import load_device
from hw_profiles.reference import reference_model
from hw_profiles.timing import PATIENCE, REFERENCE_SESSIONS, LatencyMeter, _Runner, _Times
from nas.core import DeviceError


def stack(layers: int, width: int = 32, kind: int = TensorProto.FLOAT) -> bytes:
    """Return `layers` equal convolutions, so that time grows in proportion."""
    rng = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    for index in range(layers):
        weight = rng.standard_normal((width, width, 3, 3)).astype(np.float32) / math.sqrt(9 * width)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [f"y{index}"], pads=[1, 1, 1, 1]))
        source = f"y{index}"
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", kind, ["batch", width, 32, 32])],
        [helper.make_tensor_value_info(source, kind, None)],
        weights,
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@pytest.fixture(scope="module")
def meter() -> LatencyMeter:
    return LatencyMeter(load_device("local"))


def test_the_reference_is_a_valid_model_and_always_the_same() -> None:
    assert reference_model() == reference_model()
    onnx.checker.check_model(onnx.load_from_string(reference_model()), full_check=True)


def test_the_reference_has_a_ratio_of_one_to_itself(meter: LatencyMeter) -> None:
    latency = meter.measure(reference_model(), budget_s=120)  # on a busy machine, too
    assert latency.ratio == pytest.approx(1.0, abs=0.1)
    assert latency.ms == pytest.approx(latency.ratio * meter.reference_ms)
    assert 0.0 <= latency.spread < 0.3
    assert latency.wall_p10_ms <= latency.wall_p50_ms <= latency.wall_p95_ms
    assert latency.cpu_p50_ms <= latency.wall_p50_ms * 1.05  # one thread cannot work more than there is time
    assert latency.runs >= 60


def test_three_times_the_work_takes_three_times_the_time(meter: LatencyMeter) -> None:
    short, long = meter.measure(stack(4)), meter.measure(stack(12))
    assert long.ms / short.ms == pytest.approx(3.0, rel=0.2)


def test_measuring_again_gives_the_same(meter: LatencyMeter) -> None:
    model = stack(6)
    first, second = (meter.measure(model).ms for _ in range(2))
    assert second == pytest.approx(first, rel=0.12)


def test_a_given_reference_latency_sets_the_scale() -> None:
    meter = LatencyMeter(load_device("local"), reference_ms=100.0)
    latency = meter.measure(reference_model(), sessions=1)
    assert latency.ms == pytest.approx(100.0 * latency.ratio)


def test_two_threads_compare_wall_time() -> None:
    latency = LatencyMeter(load_device("local-2t")).measure(stack(6))
    assert latency.ms > 0
    assert latency.runs >= 30


def test_files_and_given_inputs(meter: LatencyMeter, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(stack(2))
    one = meter.measure(path)
    eight = meter.measure(path, {"x": np.zeros((8, 32, 32, 32), np.float32)})
    assert eight.ms > 4 * one.ms


def test_a_short_budget_still_gives_each_session_three_turns(meter: LatencyMeter) -> None:
    latency = meter.measure(stack(4), sessions=2, session_s=60.0, budget_s=0.0)
    assert latency.runs == 2 * 3 * 3


def test_what_stays_noisy_is_measured_for_longer_and_flagged(meter: LatencyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = meter.measure(stack(2), sessions=1, session_s=0.0)
    monkeypatch.setattr("hw_profiles.timing.SPREAD_BOUND", -1.0)  # nothing is this quiet
    latency = meter.measure(stack(2), sessions=1, session_s=0.0)
    assert latency.noisy
    assert latency.runs == PATIENCE * 3 * 3
    assert quiet.runs in [count * 3 * 3 for count in range(1, PATIENCE + 1)]


@pytest.mark.parametrize("steady", [False, True])
def test_a_measurement_goes_on_until_it_met_quiet_moments(
    meter: LatencyMeter, monkeypatch: pytest.MonkeyPatch, steady: bool
) -> None:
    """For two seconds a neighbour slows every run: the network ever less, or steadily both, the reference by less."""
    model, turn = stack(6), _Runner.turn
    alone = meter.measure(model)
    began = time.perf_counter()

    def disturbed(runner: _Runner, runs: int) -> _Times:
        times, left_s = turn(runner, runs), max(0.0, 2.0 - (time.perf_counter() - began))
        own, other = (1.6, 1.3) if steady and left_s else (1.0 + left_s**2, 1.0)
        slower = other if runner in references else own
        return _Times(times.cpu_ms * slower, times.wall_ms * slower)

    references = [next(meter._references) for _ in range(REFERENCE_SESSIONS)]
    monkeypatch.setattr(_Runner, "turn", disturbed)
    latency = meter.measure(model)
    assert time.perf_counter() - began > 1.5  # three sessions of a quarter of a second would do otherwise
    assert latency.ms == pytest.approx(alone.ms, rel=0.12)


def test_a_neighbour_that_slows_most_runs_does_not_count(meter: LatencyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine turns of ten take half as long again, as beside another load on the same core; the reference is left alone."""
    model, turn = stack(6), _Runner.turn
    alone = meter.measure(model).ms
    turns = itertools.count()

    def disturbed(runner: _Runner, runs: int) -> _Times:
        times = turn(runner, runs)
        slower = 1.0 if runner in references or next(turns) % 10 == 0 else 1.5
        return _Times(times.cpu_ms * slower, times.wall_ms * slower)

    references = [next(meter._references) for _ in range(REFERENCE_SESSIONS)]
    monkeypatch.setattr(_Runner, "turn", disturbed)
    assert meter.measure(model).ms == pytest.approx(alone, rel=0.12)


@pytest.mark.parametrize("crowded", [False, True])
def test_cpu_time_is_believed_only_where_nothing_else_is_left(
    meter: LatencyMeter, monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    """The host takes the core: what it took is missing in the CPU time of some other run. Or processes take turns on it."""
    model, turn = stack(6), _Runner.turn
    alone = meter.measure(model).ms

    def disturbed(runner: _Runner, runs: int) -> _Times:
        times = turn(runner, runs)
        if crowded:
            return _Times(times.cpu_ms, 2.0 * times.wall_ms)
        return _Times(np.concatenate([[0.0], times.cpu_ms[1:]]), times.wall_ms)

    monkeypatch.setattr(_Runner, "turn", disturbed)
    assert meter.measure(model).ms == pytest.approx(alone, rel=0.15)


def test_what_cannot_run_is_an_error_of_the_user(meter: LatencyMeter, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="loads and runs"):
        meter.measure(b"not a model")
    with pytest.raises(DeviceError, match=r"absent\.onnx"):
        meter.measure(tmp_path / "absent.onnx")
    with pytest.raises(DeviceError, match="loads and runs"):
        meter.measure(stack(1), {"x": np.zeros((1, 3, 32, 32), np.float32)})
    with pytest.raises(DeviceError, match="provider"):
        LatencyMeter(dataclasses.replace(load_device("local"), provider="NoSuchProvider"))
