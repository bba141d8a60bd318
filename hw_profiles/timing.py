"""Latency under ONNX Runtime, as a ratio to a reference network timed in between, so that drift and load cancel."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_profiles.devices import check_device
from hw_profiles.reference import reference_model
from nas.core import Device, DeviceError, FloatArray, Latency

WARM_UP_RUNS = 5
TURN_RUNS = 4  # the first of a turn is left out: the caches hold the other network
SLOW_TURN_MS = 200.0  # a turn of a slower network has fewer runs, at least 2
MIN_TURNS = 3
PARTS = 2  # of each session, one after the other
AGREEING = 3  # parts that are about as fast as the fastest: their moments were quiet
SPREAD_BOUND = 0.02  # by which they may differ
QUIET = 0.05  # by which the reference may be slower than at its fastest in the life of a meter
PATIENCE = 6  # times as many sessions, at most, until moments were quiet
CALIBRATION_S = 0.125  # a part
CALIBRATION_PARTS = 40  # at most
REFERENCE_SESSIONS = 3
UNDISTURBED = 0.9  # of a run's wall time is CPU time where nothing took the core from it


@dataclass(frozen=True, slots=True)
class _Times:
    """Milliseconds of the runs of one turn: CPU time of the calling thread, and wall time, both of shape (runs,)."""

    cpu_ms: FloatArray
    wall_ms: FloatArray


Turn = tuple[_Times, _Times]  # of the network and, right after it, of the reference network


class LatencyMeter:
    """Measures networks on one device. Make one per process and keep it: it holds the reference network's session.

    In a measurement the network and the reference network take turns of a few runs. Neighbours on the same core come and go
    within milliseconds to seconds and slow kernels of 8 bits more than those of floats. They only ever add time: a network's
    time is that of its fastest run, so is the reference network's, and short turns let both meet the moments that are quiet.
    They were quiet where several parts of the measurement have about the same fastest run, and the reference is about as fast
    as ever; until then it goes on, within bounds. Where the memory of a session lies changes its speed by about a percent: the
    reference takes turns among three sessions, the network has at least as many.

    The clock is the wall's. CPU time may show less than a run took: of a virtual machine's it is what its host left to it, and
    what the host took is subtracted late, from another run. With one thread it tells which runs kept the core to themselves,
    and its median stands in where, on a crowded machine, none did.

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
        self._fastest_ms = math.inf  # that the reference ever was here

    @property
    def reference_ms(self) -> float:
        """The reference network's latency on this device in milliseconds; calibrated here if nobody gave it."""
        if self._reference_ms is None:
            self._reference_ms = self.calibrate()
        return self._reference_ms

    def calibrate(self) -> float:
        """Measure the reference network itself, in milliseconds, until parts of the measurement agree."""
        self._warm_up_references()
        fast_ms: list[float] = []
        while len(fast_ms) < AGREEING or (len(fast_ms) < CALIBRATION_PARTS and _spread(fast_ms) > SPREAD_BOUND):
            end = time.perf_counter() + CALIBRATION_S
            turns = [self._reference_turn() for _ in range(REFERENCE_SESSIONS)]
            while time.perf_counter() < end:
                turns.append(self._reference_turn())
            fast_ms.append(self._fast_ms(turns))
        self._fastest_ms = min(self._fastest_ms, *fast_ms)
        return min(fast_ms)

    def measure(
        self,
        model: bytes | Path,
        inputs: Mapping[str, NDArray[Any]] | None = None,
        sessions: int = 3,
        session_s: float = 0.25,
        budget_s: float = 10.0,
    ) -> Latency:
        """Measure the latency of one network; up to six times as long where no moments were quiet.

        Args:
            model: An ONNX model, serialised or as a file.
            inputs: What to feed it; None draws random values of the input's shape, with 1 for every dynamic dimension.
            sessions: Fresh sessions, at least: where a session's memory lies changes its speed.
            session_s: For how long the network and the reference network take turns in each.
            budget_s: Time after which no session is prolonged, once it had three turns, and none begins beyond `sessions`.

        Raises:
            DeviceError: ONNX Runtime cannot load or run the model.
        """
        reference_ms = self.reference_ms
        deadline = time.perf_counter() + budget_s
        turns: list[Turn] = []
        own_ms: list[float] = []
        other_ms: list[float] = []
        for session in range(1, PATIENCE * sessions + 1):
            taken = self._turns(_Runner(model, self.device, inputs), session_s, deadline)
            turns += taken
            size = math.ceil(len(taken) / PARTS)
            for part in (taken[:size], taken[size:]):
                own_ms.append(self._fast_ms([own for own, _ in part]))
                other_ms.append(self._fast_ms([other for _, other in part]))
            spread = max(_spread(own_ms), _spread(other_ms))
            self._fastest_ms = min(self._fastest_ms, *other_ms)
            noisy = spread > SPREAD_BOUND or min(other_ms) > (1.0 + QUIET) * self._fastest_ms
            if session >= sessions and (not noisy or time.perf_counter() > deadline):
                break
        return self._latency(turns, min(own_ms) / min(other_ms), spread, noisy, reference_ms)

    def measure_thoroughly(
        self, model: bytes | Path, inputs: Mapping[str, NDArray[Any]] | None = None, budget_s: float = 30.0
    ) -> Latency:
        """Measure with more sessions, for numbers that are shown and compared."""
        return self.measure(model, inputs, sessions=8, budget_s=budget_s)

    def _turns(self, runner: _Runner, session_s: float, deadline: float) -> list[Turn]:
        """Return what one session's turns took."""
        runner.warm_up()
        self._warm_up_references()
        one_ms = max(self._fast_ms([runner.turn(2)]), 1e-3)
        runs = max(2, min(TURN_RUNS, int(SLOW_TURN_MS / one_ms)))
        end = min(time.perf_counter() + session_s, deadline)
        turns: list[Turn] = []
        while len(turns) < MIN_TURNS or time.perf_counter() < end:
            turns.append((runner.turn(runs), self._reference_turn()))
        return turns

    def _latency(self, turns: Sequence[Turn], ratio: float, spread: float, noisy: bool, reference_ms: float) -> Latency:
        cpu = np.concatenate([times.cpu_ms for times, _ in turns])
        wall = np.concatenate([times.wall_ms for times, _ in turns])
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
            noisy=noisy,
        )

    def _warm_up_references(self) -> None:
        for _ in range(REFERENCE_SESSIONS):
            next(self._references).warm_up()

    def _reference_turn(self) -> _Times:
        return next(self._references).turn(TURN_RUNS)

    def _fast_ms(self, turns: Sequence[_Times]) -> float:
        """Return the time of the fastest run, in milliseconds."""
        wall = np.concatenate([times.wall_ms for times in turns])
        if self.device.threads > 1:
            return float(wall.min())
        cpu = np.concatenate([times.cpu_ms for times in turns])
        undisturbed = cpu >= UNDISTURBED * wall
        return float(wall[undisturbed].min() if undisturbed.any() else np.median(cpu)) or float(wall.min())


def _spread(fast_ms: Sequence[float]) -> float:
    """Return by how much the last of the fastest parts is slower than the first, relative to it."""
    fastest = sorted(fast_ms)[:AGREEING]
    return fastest[-1] / fastest[0] - 1.0


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

    def turn(self, runs: int) -> _Times:
        """Time `runs` runs, at least 2, but for the first."""
        session, feeds = self._session, self._feeds
        cpu = np.empty(runs)
        wall = np.empty(runs)
        for index in range(runs):
            wall_start = time.perf_counter_ns()
            cpu_start = time.thread_time_ns()
            session.run(None, feeds)
            cpu[index] = time.thread_time_ns() - cpu_start
            wall[index] = time.perf_counter_ns() - wall_start
        return _Times(cpu[1:] / 1e6, wall[1:] / 1e6)


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
