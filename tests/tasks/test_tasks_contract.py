"""What every task kind has to hold, whatever it measures."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nas.core import DataError, Task
from nas.core.task import DENSE_KINDS
from nas.data import MultiTaskData, Split, input_spec
from nas.tasks import KINDS, evaluation_metrics, task_kind
from nas.tasks.colours import IGNORED, class_colours, depth_colours

OUTPUTS = {"classification": 5, "segmentation": 5, "depth": 1, "normals": 3}
NONE = {"classification": -1, "segmentation": 255, "depth": 0.0, "normals": 0.0}  # what a target holds where there is none


def example(kind: str, count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A prediction and its target; a third of the entries is to be ignored."""
    g = torch.Generator().manual_seed(seed)
    if kind == "classification":
        prediction, target = torch.randn(count, 5, generator=g), torch.randint(0, 5, (count,), generator=g)
        target[::3] = -1
        return prediction, target
    prediction = torch.randn(count, OUTPUTS[kind], 6, 8, generator=g)
    if kind == "segmentation":
        target = torch.randint(0, 5, (count, 6, 8), generator=g)
    elif kind == "depth":
        prediction, target = prediction.abs() + 0.5, torch.rand(count, 1, 6, 8, generator=g) * 9 + 0.5
    else:
        target = torch.nn.functional.normalize(torch.randn(count, 3, 6, 8, generator=g), dim=1)
    hole = torch.rand(count, 6, 8, generator=g) < 1 / 3
    target = torch.where(
        hole if kind == "segmentation" else hole[:, None], torch.tensor(NONE[kind], dtype=target.dtype), target
    )
    return prediction, target


def perfect(kind: str, target: Tensor) -> Tensor:
    """A prediction that equals the target wherever that is valid."""
    if kind in ("classification", "segmentation"):
        valid = (target >= 0) & (target < 5)
        one_hot = torch.nn.functional.one_hot(torch.where(valid, target, 0), 5).float() * 50
        return one_hot if kind == "classification" else one_hot.permute(0, 3, 1, 2)
    return target.clone()


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_is_found_by_its_name(kind: str) -> None:
    assert task_kind(kind).kind == kind
    with pytest.raises(DataError, match="did you mean 'depth'"):
        task_kind("dept")


def test_loss_is_a_finite_float32_scalar_with_a_finite_gradient(kind: str) -> None:
    prediction, target = example(kind)
    for dtype in (torch.float32, torch.bfloat16):
        p = prediction.clone().to(dtype).detach().requires_grad_()
        loss = task_kind(kind).loss(p, target)
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        loss.backward()
        assert loss.isfinite()
        assert p.grad is not None
        assert p.grad.isfinite().all()
        assert p.grad.abs().sum() > 0


def test_a_half_precision_prediction_costs_the_same_up_to_its_rounding(kind: str) -> None:
    prediction, target = example(kind)
    rounded = prediction.bfloat16()
    k = task_kind(kind)
    assert k.loss(rounded, target).item() == k.loss(rounded.float(), target).item()


def test_where_nothing_is_valid_the_loss_is_zero_and_so_is_its_gradient(kind: str) -> None:
    prediction, target = example(kind)
    for ignored in [NONE[kind], *([math.nan, -1.0] if kind == "depth" else [])]:
        p = prediction.clone().requires_grad_()
        loss = task_kind(kind).loss(p, torch.full_like(target, ignored))
        loss.backward()
        assert loss.item() == 0
        assert p.grad is not None
        assert (p.grad == 0).all()
        meter = task_kind(kind).meter()
        meter.update(prediction, torch.full_like(target, ignored))
        assert all(math.isnan(value) for value in meter.result().values())


def test_invalid_entries_change_nothing(kind: str) -> None:
    """Neither the loss nor a metric depends on what is predicted where the target is to be ignored."""
    prediction, target = example(kind)
    ignored = target == NONE[kind]
    if kind == "normals":
        ignored = ignored.all(dim=1, keepdim=True)
    elif kind != "depth":
        ignored = ignored.unsqueeze(1)
    assert 0 < ignored.sum() < ignored.numel()
    p = prediction.clone().requires_grad_()
    other = torch.where(ignored, prediction.flip(1) * 7 + 3, prediction)
    k = task_kind(kind)
    loss = k.loss(p, target)
    assert loss.detach().item() == pytest.approx(k.loss(other, target).item())
    loss.backward()
    assert p.grad is not None
    assert (p.grad * ignored == 0).all()
    one, two = k.meter(), k.meter()
    one.update(prediction, target)
    two.update(other, target)
    assert one.result() == pytest.approx(two.result())


def test_a_perfect_prediction_has_no_error(kind: str) -> None:
    _, target = example(kind)
    k = task_kind(kind)
    p = perfect(kind, target)
    assert k.loss(p, target).item() == pytest.approx(0, abs=1e-3)
    meter = k.meter()
    meter.update(p, target)
    result = meter.result()
    assert result["error"] == pytest.approx(0, abs=1e-3)
    for metric in k.metrics:
        assert result[metric.name] == pytest.approx(100 if metric.higher_is_better else 0, abs=0.06)


def test_descending_the_loss_lowers_the_error(kind: str) -> None:
    prediction, target = example(kind)
    k = task_kind(kind)
    p = prediction.clone().requires_grad_()
    errors = []
    for _ in range(3):
        meter = k.meter()
        meter.update(p, target)
        errors.append(meter.result()["error"])
        for _ in range(40):
            (gradient,) = torch.autograd.grad(k.loss(p, target), p)
            p = (p - 0.1 * gradient.sign()).detach().requires_grad_()
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < 0.5 * errors[0]


@settings(deadline=None, max_examples=12)
@given(kind=st.sampled_from(list(KINDS)), cuts=st.lists(st.integers(1, 11), max_size=3, unique=True), seed=st.integers(0, 99))
def test_meters_merge_to_the_whole(kind: str, cuts: list[int], seed: int) -> None:
    prediction, target = example(kind, 12, seed)
    k = task_kind(kind)
    whole, total, from_state = k.meter(), k.meter(), k.meter()
    whole.update(prediction, target)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True):
        part = k.meter()
        part.update(prediction[start:stop], target[start:stop])
        before = part.result()
        total.merge(part)
        from_state.add(part.state())
        np.testing.assert_equal(part.result(), before)  # merging leaves the other as it was
    assert total.result() == pytest.approx(whole.result(), nan_ok=True)
    assert from_state.result() == pytest.approx(whole.result(), nan_ok=True)
    assert all(value.dtype == torch.float64 for value in whole.state().values())


def test_results_have_every_metric_and_names_of_the_task(kind: str) -> None:
    k = task_kind(kind)
    names = {"error", *(metric.name for metric in k.metrics)}
    meter = k.meter()
    assert set(meter.result()) == names
    assert all(math.isnan(value) for value in meter.result().values())
    meter.update(*example(kind))
    metrics = evaluation_metrics(Task("mine", k.kind, OUTPUTS[kind]), meter)
    assert set(metrics) == {f"{name}.mine" for name in names}
    headline = k.metrics[0]
    value = metrics[f"{headline.name}.mine"]
    assert metrics["error.mine"] == pytest.approx(1 - value / 100 if headline.higher_is_better else value)


def test_distillation_is_zero_at_the_teacher_and_teaches_the_student_only(kind: str) -> None:
    teacher, _ = example(kind, seed=1)
    student, _ = example(kind, seed=2)
    k = task_kind(kind)
    assert k.distill(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    s, t = student.bfloat16().requires_grad_(), teacher.clone().requires_grad_()
    loss = k.distill(s, t)
    assert loss.dtype == torch.float32
    assert loss.item() > 0
    loss.backward()
    assert t.grad is None
    assert s.grad is not None
    assert s.grad.isfinite().all()
    assert s.grad.abs().sum() > 0


def test_distillation_from_a_teacher_that_is_right_equals_the_loss(kind: str) -> None:
    """Distillation is on the scale of the loss: from a certain and true teacher it is the loss itself."""
    prediction, target = example(kind)
    valid = target.abs().sum(dim=1) > 0 if kind == "normals" else (target >= 0) & (target != NONE[kind])
    keep = valid.flatten(1).all(dim=1) if kind != "classification" else valid
    if kind != "classification":  # fill the holes, so that every pixel counts in both
        filler = {"segmentation": 0, "depth": 1.0, "normals": 0.5773502691896258}[kind]
        target = torch.where(target == NONE[kind] if kind != "normals" else ~valid[:, None], filler, target)
        keep = torch.ones(len(target), dtype=torch.bool)
    k = task_kind(kind)
    distilled = k.distill(prediction[keep], perfect(kind, target[keep])).item()
    assert distilled == pytest.approx(k.loss(prediction[keep], target[keep]).item(), rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_predicted_without_a_number_has_no_metrics(kind: str, value: float) -> None:
    """An argmax of NaN is a class, and a comparison with NaN is false: both look like an answer."""
    prediction, target = example(kind)
    k = task_kind(kind)
    for broken in (torch.full_like(prediction, value), prediction.index_fill(0, torch.tensor([1]), value)):
        meter = k.meter()
        meter.update(broken, target)
        assert all(math.isnan(number) for number in meter.result().values())
        whole = k.meter()
        whole.update(prediction, target)
        whole.add(meter.state())
        assert all(math.isnan(number) for number in whole.result().values())


@pytest.mark.parametrize(("classes", "ignored"), [(2, 255), (255, 255), (256, -1), (300, -1)])
def test_what_is_no_class_means_the_same_everywhere(classes: int, ignored: int) -> None:
    """In the data's check, the loss, the meter, the picture and the words; and a class of that number elsewhere is one."""
    task, k = Task("parts", "segmentation", classes), task_kind("segmentation")
    assert task.ignored == ignored
    logits = torch.zeros(2, classes, 8, 8)
    logits[:, 0] = 20.0
    for value in {ignored, classes - 1}:
        target = torch.zeros(2, 8, 8, dtype=torch.int64)
        target[:, :4] = value
        split = Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"parts": target})
        MultiTaskData("x", (task,), input_spec(split), split, split.subset([]), split)
        meter = k.meter()
        meter.update(logits, target)
        is_class = value != ignored
        assert k.loss(logits, target).item() == pytest.approx(10.0 if is_class else 0.0, abs=1e-4)
        assert meter.result()["miou"] == pytest.approx(25.0 if is_class else 100.0)
        assert k.describe(target[0].numpy(), outputs=classes).startswith("0 50 %" if is_class else "0 100 %")
        picture = k.draw(target[0].numpy(), outputs=classes)
        assert picture is not None
        assert (picture[0, 0].tolist() == list(IGNORED)) is not is_class


def test_losses_can_be_captured(kind: str) -> None:
    """Under fake tensors any wait for a value, or shape that depends on one, is an error, as in a CUDA graph."""
    prediction, target = example(kind)
    with FakeTensorMode() as mode:
        p, t = mode.from_tensor(prediction.requires_grad_()), mode.from_tensor(target)
        k = task_kind(kind)
        (k.loss(p, t) + k.distill(p, p)).backward()
        with pytest.raises(Exception, match=r"[Dd]ata.?[Dd]ependent|item|nonzero"):
            p[p > 0].sum().item()  # the check can fail


def test_a_prediction_of_another_size_is_refused(kind: str) -> None:
    prediction, target = example(kind)
    wrong = prediction[:3] if kind == "classification" else prediction[..., ::2]
    with pytest.raises(ValueError, match=re.compile("pixels|batch_size|batch size")):
        task_kind(kind).loss(wrong, target)


def test_pictures_and_words(kind: str) -> None:
    prediction, target = example(kind)
    labels = ("wall", "floor", "chair", "door", "lamp")
    for values in (prediction[1].numpy(), target[1].numpy()):
        picture = task_kind(kind).draw(values)
        words = task_kind(kind).describe(values, labels)
        assert 3 < len(words) < 80
        if kind in DENSE_KINDS:
            assert picture is not None
            assert picture.shape == (6, 8, 3)
            assert picture.dtype == np.uint8
            assert picture.std() > 0
        else:
            assert picture is None
    if kind in ("classification", "segmentation"):
        assert any(label in task_kind(kind).describe(target[1].numpy(), labels) for label in labels)


def test_pictures_of_a_prediction_and_its_equal_truth_agree() -> None:
    for kind in DENSE_KINDS:
        _, target = example(kind)
        valid = target[0].numpy() if kind == "segmentation" else np.abs(target[0].numpy()).sum(axis=0)
        hole = valid == NONE[kind]
        drawn = [task_kind(kind).draw(values.numpy()) for values in (perfect(kind, target)[0], target[0])]
        assert drawn[0] is not None
        assert drawn[1] is not None
        np.testing.assert_array_equal(drawn[0][~hole], drawn[1][~hole])


def test_colours() -> None:
    classes = class_colours(np.arange(40).reshape(1, 40))[0].astype(int)
    distance = np.abs(classes[:, None] - classes[None]).sum(axis=-1) + 1000 * np.eye(40, dtype=int)
    assert distance.min() > 10  # forty classes, forty colours
    assert class_colours(np.array([[255]])).tolist() == [[[40, 40, 40]]]
    ramp = depth_colours(np.linspace(0.1, 10, 50)[None], (0.0, 10.0))[0].astype(float)
    luma = ramp @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma) > 0).all()  # farther is lighter, also in grey
    assert depth_colours(np.array([[0.0, np.nan, -1.0, 99.0]]), (0.0, 10.0))[0, :3].sum() == 0
    x = task_kind("normals").draw(np.array([1.0, 0, 0]).reshape(3, 1, 1))
    assert x is not None
    assert x[0, 0].tolist() == [255, 128, 128]
