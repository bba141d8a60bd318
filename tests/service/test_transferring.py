"""Latency on a job's further devices from a few measurements and the first device's profiles."""

from __future__ import annotations

import numpy as np
import pytest

from nas.core import ArchConfig, Fingerprint, InputSpec, Latency, Profile, Task
from nas.service.transferring import MEASUREMENTS, chosen, fit_transfer, predict_transfer
from search_spaces import make_space

PIXELS = InputSpec(3, 32, 32, (0.5,) * 3, (0.25,) * 3)
DEFINITION = make_space("slimmable", {}, [Task("seg", "segmentation", 4), Task("depth", "depth", 1)], PIXELS)
HERE = Fingerprint("a cpu", 2, "1", "CPUExecutionProvider", 1)


def first_ms(archs: list[ArchConfig]) -> np.ndarray:
    """Return the latency of a device that is bound by arithmetic, with an overhead."""
    return 0.2 + DEFINITION.macs(archs) / 5e6


def profiles(device: str, archs: list[ArchConfig], ms: np.ndarray) -> list[Profile]:
    rows = zip(archs, ms.tolist(), strict=True)
    return [Profile(arch, device, HERE, Latency(t, t, 0.01, t, t, t, t, 30, False), {"macs": 1.0}) for arch, t in rows]


@pytest.fixture(scope="module")
def archs() -> list[ArchConfig]:
    rng = np.random.default_rng(0)
    return list({arch.key: arch for arch in (DEFINITION.space.sample(rng) for _ in range(240))}.values())


def test_a_further_device_is_measured_on_fifteen_of_the_first_ones_subnets(archs: list[ArchConfig]) -> None:
    first = profiles("a", archs[:40], first_ms(archs[:40]))
    found = chosen(DEFINITION, first, seed=0)
    assert len({arch.key for arch in found}) == MEASUREMENTS
    assert {arch.key for arch in found} <= {row.arch.key for row in first}
    assert chosen(DEFINITION, first, seed=0) == found
    assert len(chosen(DEFINITION, first[:5], seed=0)) == 5


def test_a_device_that_takes_a_power_of_the_time_is_predicted(archs: list[ArchConfig]) -> None:
    first = profiles("a", archs[:40], first_ms(archs[:40]))
    picked = chosen(DEFINITION, first, seed=0)
    fitted = fit_transfer(DEFINITION, first, profiles("b", picked, 3 * first_ms(picked) ** 0.9), "latency_ms@b", seed=0)
    assert fitted is not None
    report, state = fitted
    assert (report.kind, report.rows) == ("transfer", MEASUREMENTS)
    assert report.quality["within_10"] > 0.9
    others = archs[40:]
    truth = 3 * first_ms(others) ** 0.9
    found = predict_transfer(DEFINITION, state, others, first_ms(others))
    assert (np.abs(found / truth - 1) < 0.1).mean() > 0.95


def test_devices_without_common_subnets_have_nothing_to_transfer(archs: list[ArchConfig]) -> None:
    first = profiles("a", archs[:10], first_ms(archs[:10]))
    other = profiles("b", archs[10:20], first_ms(archs[10:20]))
    assert fit_transfer(DEFINITION, first, other, "latency_ms@b", seed=0) is None
