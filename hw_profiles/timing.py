"""Latency under ONNX Runtime, as a ratio to a reference network timed in between, so that drift and load cancel."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_profiles.devices import check_device
from hw_profiles.reference import reference_model
from nas.core import Device, DeviceError, FloatArray, Latency

WARM_UP_RUNS = 5
BLOCK_RUNS = 10
BLOCK_MS = 5.0  # a block of a faster network has more runs
SLOW_BLOCK_MS = 200.0  # a block of a slower network has fewer runs, at least 3
MIN_BLOCKS = 3
FAST_QUANTILE = 0.1  # of the runs of a block: interference only ever adds time
REFERENCE_SESSIONS = 3
SPREAD_BOUND = 0.05
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Times:
    """Milliseconds of the runs of one block: CPU time of the calling thread, and wall time, both of shape (runs,)."""

    cpu_ms: FloatArray
    wall_ms: FloatArray


class LatencyMeter:
    """Measures networks on one device. Make one per process and keep it: it holds the reference network's session.

    A measurement alternates blocks of about ten runs of the network and of the reference network. With one thread, what is
    compared is the CPU time of the calling thread, which other processes hardly disturb; with several threads it is the
    wall time. A block's time is the tenth percentile of its runs, and its ratio is that over the mean of the reference's
    blocks before and after it. Where the memory of a session lies changes its speed by about a percent: the reference
    takes turns among three sessions, and a thorough measurement has five of the network.

    Args:
        device: Provider and number of threads.
        reference_ms: The reference network's latency on this device, as a former meter calibrated it, so that numbers
            measured on different days are comparable; None calibrates when it is first needed.

    Raises:
        DeviceError: ONNX Runtime lacks the device's provider.
    """

    def __init__(self, device: Device, reference_ms: float | None = None) -> None:
        check_device(device)
        self.device = device
        model = reference_model()
        self._references = itertools.cycle([_Runner(model, device, None) for _ in range(REFERENCE_SESSIONS)])
        self._reference_ms = reference_ms

    @property
    def reference_ms(self) -> float:
        """The reference network's latency on this device in milliseconds; calibrated here if nobody gave it."""
        if self._reference_ms is None:
            self._reference_ms = self.calibrate()
        return self._reference_ms

    def calibrate(self, blocks: int = 15) -> float:
        """Measure the reference network itself: the median over blocks of a block's time, in milliseconds."""
        self._warm_up_references()
        return float(np.median([self._reference_block() for _ in range(blocks)]))

    def measure(
        self,
        model: bytes | Path,
        inputs: Mapping[str, NDArray[Any]] | None = None,
        blocks: int = 6,
        sessions: int = 1,
        budget_s: float = 10.0,
    ) -> Latency:
        """Measure the latency of one network; again, up to three times, where the blocks disagree.

        Args:
            model: An ONNX model, serialised or as a file.
            inputs: What to feed it; None draws random values of the input's shape, with 1 for every dynamic dimension.
            blocks: Blocks per session.
            sessions: Fresh sessions: where a session's memory lies changes its speed, so that the median of several is
                reproducible where one is not.
            budget_s: Time after which no further block or attempt starts, once every session has had three blocks.

        Raises:
            DeviceError: ONNX Runtime cannot load or run the model.
        """
        reference_ms = self.reference_ms
        deadline = time.perf_counter() + budget_s
        best: Latency | None = None
        for _ in range(ATTEMPTS):
            latency = self._attempt(model, inputs, blocks, sessions, deadline, reference_ms)
            if best is None or latency.spread < best.spread:
                best = latency
            if not best.noisy or time.perf_counter() > deadline:
                break
        assert best is not None
        return best

    def measure_thoroughly(self, model: bytes | Path, inputs: Mapping[str, NDArray[Any]] | None = None) -> Latency:
        """Measure with several fresh sessions, for numbers that are shown and compared."""
        return self.measure(model, inputs, blocks=5, sessions=5, budget_s=30.0)

    def _attempt(
        self,
        model: bytes | Path,
        inputs: Mapping[str, NDArray[Any]] | None,
        blocks: int,
        sessions: int,
        deadline: float,
        reference_ms: float,
    ) -> Latency:
        per_session: list[FloatArray] = []
        every: list[_Times] = []
        for _ in range(sessions):
            runner = _Runner(model, self.device, inputs)
            times, ratios = self._interleave(runner, blocks, deadline)
            every += times
            per_session.append(ratios)
        ratio = float(np.median([np.median(ratios) for ratios in per_session]))
        centred = np.concatenate([ratios / np.median(ratios) for ratios in per_session])
        low, high = np.quantile(centred, [0.25, 0.75])
        spread = float((high - low) / 2)
        cpu = np.concatenate([times.cpu_ms for times in every])
        wall = np.concatenate([times.wall_ms for times in every])
        p10, p50, p95 = (float(value) for value in np.quantile(wall, [0.1, 0.5, 0.95]))
        return Latency(
            ms=ratio * reference_ms,
            ratio=ratio,
            spread=spread,
            cpu_p50_ms=float(np.median(cpu)),
            wall_p10_ms=p10,
            wall_p50_ms=p50,
            wall_p95_ms=p95,
            runs=len(wall),
            noisy=spread > SPREAD_BOUND,
        )

    def _interleave(self, runner: _Runner, blocks: int, deadline: float) -> tuple[list[_Times], FloatArray]:
        """Return the blocks' times and their ratios to the reference network, of shape (blocks,)."""
        runner.warm_up()
        self._warm_up_references()
        one_ms = max(self._compared(runner.block(3)), 1e-3)
        runs = int(np.clip(np.ceil(BLOCK_MS / one_ms), BLOCK_RUNS, 200))
        runs = max(3, min(runs, int(SLOW_BLOCK_MS / one_ms)))
        before = self._reference_block()
        times: list[_Times] = []
        ratios: list[float] = []
        for index in range(blocks):
            if index >= MIN_BLOCKS and time.perf_counter() > deadline:
                break
            block = runner.block(runs)
            after = self._reference_block()
            times.append(block)
            ratios.append(self._compared(block) / ((before + after) / 2))
            before = after
        return times, np.asarray(ratios)

    def _warm_up_references(self) -> None:
        for _ in range(REFERENCE_SESSIONS):
            next(self._references).warm_up()

    def _reference_block(self) -> float:
        return self._compared(next(self._references).block(BLOCK_RUNS))

    def _compared(self, times: _Times) -> float:
        """Return a block's time in milliseconds."""
        return float(np.quantile(times.cpu_ms if self.device.threads == 1 else times.wall_ms, FAST_QUANTILE))


class _Runner:
    """One session and what it is fed."""

    def __init__(self, model: bytes | Path, device: Device, inputs: Mapping[str, NDArray[Any]] | None) -> None:
        import onnxruntime

        options = session_options(device)
        if inputs is None:  # one image: a batch left open costs ONNX Runtime shape arithmetic at every run
            options.add_free_dimension_override_by_name("batch", 1)
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=[device.provider]
            )
            self._feeds = dict(inputs) if inputs is not None else random_inputs(self._session)
            self._session.run(None, self._feeds)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own that share no base
            name = "the model" if isinstance(model, bytes) else str(model)
            raise DeviceError(
                f"a model that is measured loads and runs under ONNX Runtime: {name} does not ({error}); export it again"
            ) from error

    def warm_up(self) -> None:
        for _ in range(WARM_UP_RUNS):
            self._session.run(None, self._feeds)

    def block(self, runs: int) -> _Times:
        session, feeds = self._session, self._feeds
        cpu = np.empty(runs)
        wall = np.empty(runs)
        for index in range(runs):
            wall_start = time.perf_counter_ns()
            cpu_start = time.thread_time_ns()
            session.run(None, feeds)
            cpu[index] = time.thread_time_ns() - cpu_start
            wall[index] = time.perf_counter_ns() - wall_start
        return _Times(cpu / 1e6, wall / 1e6)


def session_options(device: Device) -> Any:
    """Return the options of ONNX Runtime under which networks are timed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that spins while it waits takes the core from the one it waits for, where threads share cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def random_inputs(session: Any) -> dict[str, NDArray[Any]]:
    """Return random values of the shapes a session takes, with 1 for every dynamic dimension."""
    rng = np.random.default_rng(0)
    types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    feeds: dict[str, NDArray[Any]] = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if value.type in types:
            feeds[value.name] = rng.random(shape).astype(types[value.type])
        else:
            kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8}
            feeds[value.name] = np.zeros(shape, dtype=kind[value.type])
    return feeds
