"""How losses become one number, against closed forms; and the mean relative change against single-task twins."""

from __future__ import annotations

import math

import pytest
import torch

from nas.core import JobFileError, Task
from nas.tasks import KINDS
from nas.tasks.delta import delta_m, without_zero
from nas.train.balancing import BALANCERS, make_balancer

TASKS = (
    Task("depth", "depth", 1, weight=0.25),
    Task("normals", "normals", 3, weight=4.0),
    Task("seg", "segmentation", 5, weight=2.0),
    Task("room", "classification", 3),
)
LOSSES = {"depth": torch.tensor(2.0), "normals": torch.tensor(0.5), "seg": torch.tensor(3.0), "room": torch.tensor(0.1)}


def test_equal_is_the_sum() -> None:
    assert float(make_balancer("equal", TASKS)(LOSSES)) == pytest.approx(2 + 0.5 + 3 + 0.1)


def test_fixed_weighs_as_the_job_says() -> None:
    assert float(make_balancer("fixed", TASKS)(LOSSES)) == pytest.approx(0.25 * 2 + 4 * 0.5 + 2 * 3 + 0.1)


def test_uncertainty_starts_at_unit_variance() -> None:
    assert make_balancer("uncertainty", TASKS)(LOSSES).item() == pytest.approx(0.5 * (2 + 0.5) + 3 + 0.1)


def test_learned_variances_end_where_the_closed_form_says() -> None:
    # d/ds (a·exp(-s)·L + s/2) = 0 at s = log(2aL): log L for regression (a = 1/2), log 2L for classes (a = 1).
    balancer = make_balancer("uncertainty", TASKS)
    optimizer = torch.optim.LBFGS(balancer.parameters(), max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        total = balancer(LOSSES)
        total.backward()
        return total.item()

    optimizer.step(closure)
    found = {name.removeprefix("log_variance."): s.item() for name, s in balancer.named_parameters()}
    assert found == pytest.approx(
        {"depth": 0.693147, "normals": math.log(0.5), "seg": math.log(6), "room": math.log(0.2)}, abs=1e-3
    )
    assert balancer(LOSSES).item() == pytest.approx(sum(0.5 + s / 2 for s in found.values()), abs=1e-5)


@pytest.mark.parametrize("name", BALANCERS)
def test_every_balancer_passes_gradients_to_every_loss(name: str) -> None:
    losses = {task: loss.clone().requires_grad_() for task, loss in LOSSES.items()}
    total = make_balancer(name, TASKS)(losses)
    assert total.shape == ()
    total.backward()
    assert all(loss.grad is not None and loss.grad > 0 for loss in losses.values())


def test_an_unknown_balancing_names_the_nearest() -> None:
    with pytest.raises(JobFileError, match=r"'uncertain'; did you mean 'uncertainty'\?"):
        make_balancer("uncertain", TASKS)


def test_the_mean_relative_change_by_hand() -> None:
    tasks = TASKS[:3]
    together = {"rmse_m.depth": 0.9, "mean_deg.normals": 33.0, "miou.seg": 30.0}
    alone = {"rmse_m.depth": 1.0, "mean_deg.normals": 30.0, "miou.seg": 25.0}
    # Depth is 10 % better, normals are 10 % worse, segmentation is 20 % better.
    assert delta_m(together, alone, tasks, KINDS) == pytest.approx((10 - 10 + 20) / 3)
    assert delta_m(alone, alone, tasks, KINDS) == 0


@pytest.mark.parametrize("alone", [0.0, float("nan"), None])
def test_no_change_is_relative_to_nothing(alone: float | None) -> None:
    tasks = TASKS[:3]
    together = {"rmse_m.depth": 0.9, "mean_deg.normals": 33.0, "miou.seg": 30.0}
    twins = {"rmse_m.depth": 1.0, "mean_deg.normals": 30.0, "miou.seg": alone}
    assert math.isnan(delta_m(together, twins, tasks, KINDS))
    assert list(without_zero(twins, tasks, KINDS)) == ["miou.seg"]
    assert math.isnan(delta_m({**together, "miou.seg": math.nan}, {**twins, "miou.seg": 25.0}, tasks, KINDS))
