"""The gradients of one step, against plain networks trained one by one; and how far features are apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import SPEC, TASKS, tiny_data, tiny_definition
from torch import Tensor

from nas.core import ArchConfig, TrainingSpec
from nas.data import batches
from nas.supernet import MultiTaskNet, Supernet
from nas.tasks import task_kind
from nas.train.balancing import make_balancer
from nas.train.compute import Compute
from nas.train.sandwich import Sandwich, feature_distance, step_archs

CPU = Compute(torch.device("cpu"), bf16=False)
DATA = tiny_data()
DEFINITION = tiny_definition(DATA)
SPACE = DEFINITION.space


def sandwich_of(spec: TrainingSpec) -> Sandwich:
    torch.manual_seed(0)
    supernet = Supernet(DEFINITION).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return Sandwich(supernet, make_balancer(spec.balancing, TASKS), spec, CPU)


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    return next(iter(batches(DATA.train, TASKS, 8, None)))


def four_archs() -> list[ArchConfig]:
    rng = np.random.default_rng(3)
    return step_archs(SPACE.largest(), SPACE.smallest(), [SPACE.sample(rng) for _ in range(2)], 4)


def cosine_distance(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Return the mean of |u - v|² = 2 - 2 cos over stages, images and pixels."""
    means = []
    for own, full in zip(student, teacher, strict=True):
        full = F.interpolate(full[:, : own.shape[1]], size=own.shape[-2:], mode="area")
        means.append((2 - 2 * F.cosine_similarity(own, full, dim=1)).mean())
    return sum(means) / len(means)  # type: ignore[return-value]


def gradients_one_by_one(sandwich: Sandwich, archs: list[ArchConfig]) -> dict[str, Tensor]:
    """Return the sum over plain networks of their gradients, each put where its slice lies."""
    x, targets = batch()
    spec = sandwich.spec
    total = {name: torch.zeros_like(p) for name, p in sandwich.supernet.shared.named_parameters()}
    modules: list[MultiTaskNet] = [sandwich.supernet.extract(arch) for arch in archs]
    soft: dict[str, Tensor] = {}
    full: list[Tensor] = []
    for arch, module in zip(archs, modules, strict=True):
        features = module.encode(x)
        outputs = module.decode(features)
        loss = torch.zeros(())
        for task in TASKS:
            kind = task_kind(task.kind)
            weight = {"equal": 1.0, "fixed": task.weight}[spec.balancing]
            truth = kind.loss(outputs[task.name], targets[task.name])
            if soft:
                taught = kind.distill(outputs[task.name], soft[task.name])
                truth = (1 - spec.distillation) * truth + spec.distillation * taught
            loss = loss + weight * truth
        if soft:
            loss = loss + spec.encoder_distillation * cosine_distance(features, full)
        else:
            soft, full = {n: o.detach() for n, o in outputs.items()}, [f.detach() for f in features]
        loss.backward()
        own = dict(module.named_parameters())
        for name, view in DEFINITION.views(arch, {name: p.shape for name, p in own.items()}).items():
            gradient = own[name].grad
            assert gradient is not None
            view.of(total[view.name]).add_(gradient)
    return total


@pytest.mark.parametrize("balancing", ["equal", "fixed"])
@pytest.mark.parametrize(("distillation", "encoder"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.0)])
def test_a_step_adds_up_the_gradients_of_its_subnets(balancing: str, distillation: float, encoder: float) -> None:
    spec = replace(SPEC, balancing=balancing, distillation=distillation, encoder_distillation=encoder)
    sandwich, archs = sandwich_of(spec), four_archs()
    assert len(archs) == 4
    expected = gradients_one_by_one(sandwich, archs)
    sandwich.load(*batch())
    for arch in archs:
        sandwich.run(arch)
    for name, parameter in sandwich.supernet.shared.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=2e-5)


def test_the_losses_reported_are_those_of_the_largest_subnet() -> None:
    sandwich = sandwich_of(SPEC)
    x, targets = batch()
    outputs = sandwich.supernet.extract(SPACE.largest())(x)
    expected = {t.name: task_kind(t.kind).loss(outputs[t.name], targets[t.name]).item() for t in TASKS}
    sandwich.load(x, targets)
    for arch in four_archs():
        sandwich.run(arch)
    assert sandwich.losses.tolist() == pytest.approx([expected[task.name] for task in TASKS], rel=1e-5)
    assert sandwich.labelled.tolist() == [task_kind(t.kind).labelled(targets[t.name], t.outputs).item() for t in TASKS]


def test_the_teacher_learns_nothing_from_its_pupils() -> None:
    gradients = []
    for share in (0.0, 1.0):
        sandwich = sandwich_of(replace(SPEC, distillation=share, encoder_distillation=share))
        sandwich.load(*batch())
        sandwich.run(SPACE.largest())
        gradients.append([p.grad.clone() for p in sandwich.supernet.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("subnets", "expected"),
    [(1, ["L"]), (2, ["L", "S"]), (3, ["L", "S", "a"]), (4, ["L", "S", "a", "b"]), (0, ["L"])],
)
def test_a_step_is_the_largest_the_smallest_and_random_ones(subnets: int, expected: list[str]) -> None:
    large, small, a, b = (ArchConfig({"name": name}) for name in "LSab")
    assert [arch["name"] for arch in step_archs(large, small, [a, b][: max(subnets - 2, 0)], subnets)] == expected


def test_a_subnet_that_is_drawn_twice_runs_once() -> None:
    large, small = ArchConfig({"name": "L"}), ArchConfig({"name": "S"})
    assert step_archs(large, small, [small, large], 4) == [large, small]
    assert step_archs(large, large, [], 2) == [large]


def features(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_features_that_point_the_same_way_are_at_distance_zero() -> None:
    teacher = features((2, 6, 4, 5), (2, 8, 2, 3))
    assert float(feature_distance(teacher, teacher)) == 0
    assert float(feature_distance([7 * f for f in teacher], teacher)) == pytest.approx(0, abs=1e-10)


def test_opposite_features_are_at_distance_four() -> None:
    teacher = features((2, 6, 4, 5))
    assert float(feature_distance([-0.1 * f for f in teacher], teacher)) == pytest.approx(4, rel=1e-6)


def test_orthogonal_features_are_at_distance_two() -> None:
    own, full = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    own[:, 0], full[:, 1] = 1.0, 5.0
    assert float(feature_distance([own], [full])) == pytest.approx(2)


def test_distance_ignores_scale_and_channels_the_student_lacks() -> None:
    own, full = features((2, 3, 2, 2), (2, 4, 1, 1)), features((2, 6, 4, 4), (2, 8, 2, 2), seed=1)
    expected = float(cosine_distance(own, full))
    assert float(feature_distance(own, full)) == pytest.approx(expected, rel=1e-5)
    changed = [torch.cat([10 * f[:, : o.shape[1]], 99 + f[:, o.shape[1] :]], dim=1) for o, f in zip(own, full, strict=True)]
    assert float(feature_distance([0.01 * f for f in own], changed)) == pytest.approx(expected, rel=1e-4)


def test_distance_of_dead_features_is_finite() -> None:
    own = [torch.zeros(1, 3, 2, 2, requires_grad=True)]
    distance = feature_distance(own, features((1, 3, 2, 2)))
    distance.backward()
    assert distance.item() == pytest.approx(1)
    assert torch.isfinite(own[0].grad).all()  # type: ignore[arg-type]
