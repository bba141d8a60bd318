"""How long each operator of a network takes under ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hw_profiles.operators import profiled_run
from nas.core import Device
from nas.core.operator import OperatorTime

RUNS = 100
FAST_QUANTILE = 0.03  # of the runs: interference only ever adds time
LEAST_MS = 5e-4  # the profiler's clock ticks in microseconds


def node_times(
    model: bytes | Path, device: Device, total_ms: float | None = None, runs: int = RUNS
) -> tuple[OperatorTime, ...]:
    """Return the operators that ONNX Runtime runs for one input, in order, with their times.

    A node's time is that of its fastest runs, on the wall clock and with what the profiler itself costs: the sum is
    some percent off what the network takes. Times are therefore shares of a total that was measured well.

    Args:
        model: An ONNX model, serialised or as a file.
        device: Provider and number of threads.
        total_ms: What the whole network takes (`LatencyMeter`); the times are scaled to add up to it. None leaves them.
        runs: Profiled runs.

    Raises:
        DeviceError: ONNX Runtime cannot load or run the model.
    """
    nodes = profiled_run(model, device, runs)
    times = np.array([np.quantile([event["dur"] for event in node.events], FAST_QUANTILE) for node in nodes]) / 1e3
    times = np.maximum(times, LEAST_MS)
    if total_ms is not None:
        times = times * (total_ms / times.sum())
    return tuple(OperatorTime(node.operator, float(ms)) for node, ms in zip(nodes, times, strict=True))
