"""Where a network runs, and how long it takes there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A target, as one file of `hw_profiles/devices` describes it.

    Attributes:
        name: Used in ``latency_ms@NAME``.
        description: One line for people.
        provider: ONNX Runtime execution provider.
        threads: Intra-operator threads.
        resource: Ray resource that a worker needs to measure here; None where the driver's own machine is the device.
    """

    name: str
    description: str
    provider: str = "CPUExecutionProvider"
    threads: int = 1
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a latency depends on besides the network."""

    cpu: str
    cores: int
    onnxruntime: str
    provider: str
    threads: int

    @property
    def key(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Latency:
    """A measured latency of one input, in milliseconds.

    Attributes:
        ms: The number to compare: the ratio to the reference network times that network's latency on this device, so
            that a drift of the machine between two measurements cancels.
        ratio: The time of the network's fastest runs over that of the reference network's, which took turns with it.
        spread: By how much the third fastest part of the measurement was slower than the fastest, relative.
        cpu_p50_ms: Median CPU time of the calling thread (all the work, where there is one thread).
        wall_p10_ms: Tenth percentile of the wall time.
        wall_p50_ms: Median wall time.
        wall_p95_ms: 95th percentile of the wall time.
        runs: Timed runs.
        noisy: No moments were quiet, although it was measured for longer.
    """

    ms: float
    ratio: float
    spread: float
    cpu_p50_ms: float
    wall_p10_ms: float
    wall_p50_ms: float
    wall_p95_ms: float
    runs: int
    noisy: bool
