"""Sensitivities of a network whose losses, savings and borders are known."""

from __future__ import annotations

import itertools

import pytest

from nas.core import Precision
from nas.export.sensitivity import Measured, Policy, Sensitivity, measure_sensitivity, payoffs, relative_loss, seed_policies

OPTIONS: dict[str, tuple[Precision, ...]] = {
    "stem": ("int8", "fp32"),
    "body": ("int4", "int8", "fp32"),
    "head": ("int8", "fp32"),
    "pool": ("fp32",),
}
SAVED_MS = {("stem", "int8"): 0.1, ("body", "int8"): 1.0, ("body", "int4"): -0.5, ("head", "int8"): 0.6}
LOSS = {("stem", "int8"): 0.10, ("body", "int8"): 0.01, ("body", "int4"): 0.002, ("head", "int8"): -0.01}
BYTES = {"fp32": 400, "int8": 100, "int4": 50}
BORDER_MS = 0.3


class Network:
    """Three blocks in a row; where a quantized one meets one of floats, or the outside, there is a border."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Precision]] = []

    def measure(self, policy: Policy) -> Measured:
        self.asked.append(dict(policy))
        row = [policy.get(block, "fp32") for block in ("stem", "body", "head")]
        ms, seg, depth = 10.0, 0.5, 2.0
        for block, precision in zip(("stem", "body", "head"), row, strict=True):
            if precision != "fp32":
                ms -= SAVED_MS[block, precision]
                depth *= 1 + LOSS[block, precision]
                seg *= 1 + LOSS[block, precision] / 2
        ends = ["fp32", *row, "fp32"]
        ms += BORDER_MS * sum((a == "fp32") != (b == "fp32") for a, b in itertools.pairwise(ends))
        return Measured({"seg": seg, "depth": depth}, ms, sum(BYTES[precision] for precision in row))


@pytest.fixture
def found() -> dict[tuple[str, str], Sensitivity]:
    return {(entry.block, entry.precision): entry for entry in measure_sensitivity(OPTIONS, Network().measure)}


def test_every_precision_is_measured_alone_and_in_company_and_nothing_twice() -> None:
    network = Network()
    measure_sensitivity(OPTIONS, network.measure)
    asked = [tuple(sorted(policy.items())) for policy in network.asked]
    assert len(set(asked)) == len(asked)
    assert asked[:2] == [(), (("body", "int4"), ("head", "int8"), ("stem", "int8"))]
    assert len(asked) == 2 + 3 + 4 + 1  # neither, each left out, each alone, and the body's other precision in company


def test_losses_are_the_worst_task_alone(found: dict[tuple[str, str], Sensitivity]) -> None:
    assert set(found) == set(SAVED_MS)
    for key, entry in found.items():
        assert entry.loss == pytest.approx(max(LOSS[key], LOSS[key] / 2))
    assert relative_loss({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0}) == pytest.approx(0.5)
    assert relative_loss({"a": 0.0, "b": 3.0}, {"a": 0.0, "b": 2.0}) == pytest.approx(0.5)  # a task that makes no error
    assert relative_loss({"a": 0.1, "b": 2.0}, {"a": 0.0, "b": 2.0}) == pytest.approx(0.1)


def test_savings_are_those_of_the_better_company(found: dict[tuple[str, str], Sensitivity]) -> None:
    assert found["stem", "int8"].saved_ms == pytest.approx(0.1)  # moves a border, alone it would add two: -0.5
    assert found["body", "int8"].saved_ms == pytest.approx(1.0 + 2 * BORDER_MS)  # closes the gap between its neighbours
    assert found["body", "int4"].saved_ms == pytest.approx(-0.5 + 2 * BORDER_MS)
    assert found["head", "int8"].saved_ms == pytest.approx(0.6)
    assert {key: entry.saved_bytes for key, entry in found.items()} == {
        ("stem", "int8"): 300,
        ("body", "int4"): 350,
        ("body", "int8"): 300,
        ("head", "int8"): 300,
    }


def test_what_cannot_pay_is_left_out(found: dict[tuple[str, str], Sensitivity]) -> None:
    entries = list(found.values())
    assert payoffs(entries, noise_ms=0.15) == {"stem": ("fp32",), "body": ("int8", "fp32"), "head": ("int8", "fp32")}
    assert payoffs(entries, noise_ms=0.05)["body"] == ("int4", "int8", "fp32")
    assert payoffs(entries, noise_ms=0.05)["stem"] == ("fp32",)  # loses a tenth
    assert payoffs(entries, noise_ms=0.05, most_loss=0.2)["stem"] == ("int8", "fp32")
    assert payoffs(entries, noise_ms=9, count_bytes=True, most_loss=0.2) == {b: OPTIONS[b] for b in ("stem", "body", "head")}
    assert payoffs(entries, noise_ms=0.05, count_ms=False) == dict.fromkeys(("stem", "body", "head"), ("fp32",))


def test_a_search_starts_along_the_chain_of_least_loss_for_what_is_saved(found: dict[tuple[str, str], Sensitivity]) -> None:
    chain = seed_policies(list(found.values()))
    assert chain == [
        {"stem": "fp32", "body": "fp32", "head": "fp32"},
        {"stem": "fp32", "body": "fp32", "head": "int8"},
        {"stem": "fp32", "body": "int8", "head": "int8"},
        {"stem": "int8", "body": "int8", "head": "int8"},
    ]
    by_size = seed_policies(list(found.values()), unit="bytes")
    assert [sum(p != "fp32" for p in policy.values()) for policy in by_size] == [0, 1, 2, 3]
    assert by_size[-1]["body"] == "int4"
    costly = [Sensitivity("a", "int8", 0.0, -1.0, 10.0)]
    assert seed_policies(costly) == [{"a": "fp32"}]
    assert seed_policies([]) == [{}]
