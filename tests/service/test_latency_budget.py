"""The time that a stage's measurements share."""

import time

import pytest

from nas.service.latency_budget import MOST_S, LatencyBudget


def test_a_single_network_may_take_all_of_the_patience() -> None:
    with LatencyBudget(1, least_s=3.0, shared_s=60.0).next() as seconds:
        assert seconds == MOST_S
    with LatencyBudget(1, least_s=3.0, shared_s=6.0).next() as seconds:
        assert seconds == pytest.approx(3.0 + 3 * 6.0)


def test_what_one_network_takes_is_gone_and_what_it_leaves_is_not() -> None:
    budget = LatencyBudget(4, least_s=0.0, shared_s=0.4)
    with budget.next() as first:
        time.sleep(0.2)
    with budget.next() as second:
        pass
    assert first == pytest.approx(0.3)
    assert budget.shared_s == pytest.approx(0.2, abs=0.05)
    assert second == pytest.approx(3 * budget.shared_s / 3, abs=0.05)
    with budget.next() as third:
        time.sleep(0.3)
    with budget.next() as last:
        pass
    assert third > second - 0.05
    assert last == 0.0  # the least, which is nothing here: the patience is used up


def test_all_networks_together_take_no_more_than_their_least_and_the_patience() -> None:
    budget, began = LatencyBudget(8, least_s=0.02, shared_s=0.1), time.perf_counter()
    for _ in range(8):
        with budget.next() as seconds:
            time.sleep(seconds)  # a machine that is never quiet
    assert time.perf_counter() - began < 8 * 0.02 + 0.1 + 0.3 * 0.1 + 0.1


def test_waiting_takes_no_longer_than_measuring() -> None:
    assert LatencyBudget(2, least_s=3.0).shared_s == 6.0
    assert LatencyBudget(32, least_s=3.0).shared_s == 30.0
