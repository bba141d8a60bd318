"""Each loss and metric against a number worked out by hand, or against another implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score

from nas.tasks import task_kind


def measured(kind: str, prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    meter = task_kind(kind).meter()
    meter.update(prediction, target)
    return meter.result()


def logits(classes: list[list[int]], count: int) -> torch.Tensor:
    """Logits (1, count, h, w) whose largest is at the class given."""
    return torch.nn.functional.one_hot(torch.tensor([classes]), count).permute(0, 3, 1, 2).float()


def test_miou_by_hand() -> None:
    truth = torch.tensor([[[0, 0, 0, 1], [1, 1, 255, 0]]])
    guess = logits([[0, 0, 1, 1], [1, 0, 2, 2]], 4)
    # Class 0: 2 right, 4 true, 3 predicted: 2/5. Class 1: 2 right, 3 true, 3 predicted: 2/4. Class 2 is predicted once where
    # it is not: 0. Class 3 is neither true nor predicted, and does not count. The ignored pixel does not count.
    result = measured("segmentation", guess, truth)
    assert result["miou"] == pytest.approx(100 * (2 / 5 + 2 / 4 + 0) / 3)
    assert result["error"] == pytest.approx(1 - (2 / 5 + 2 / 4) / 3)
    assert result["pixel_accuracy"] == pytest.approx(100 * 4 / 7)


def test_miou_is_of_all_pixels_and_no_mean_over_images() -> None:
    meter = task_kind("segmentation").meter()
    meter.update(logits([[0, 0]], 2), torch.tensor([[[0, 0]]]))
    meter.update(logits([[0, 0]], 2), torch.tensor([[[1, 1]]]))
    # Confusion: class 0 has 2 right, 2 true, 4 predicted; class 1 has none right, 2 true.
    assert meter.result()["miou"] == pytest.approx(100 * (2 / 4 + 0) / 2)


def test_segmentation_equals_sklearn() -> None:
    g = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(3, 7, 9, 11, generator=g), torch.randint(0, 7, (3, 9, 11), generator=g)
    truth, guess = target.flatten().numpy(), prediction.argmax(dim=1).flatten().numpy()
    result = measured("segmentation", prediction, target)
    assert result["miou"] == pytest.approx(100 * jaccard_score(truth, guess, average="macro"))
    assert result["pixel_accuracy"] == pytest.approx(100 * accuracy_score(truth, guess))
    assert measured("segmentation", prediction, target.to(torch.uint8)) == result


def test_cross_entropy_by_hand() -> None:
    """Logits log 1, log 3: probabilities 1/4, 3/4."""
    pair = torch.log(torch.tensor([1.0, 3.0]))
    expected = (math.log(4) + math.log(4 / 3)) / 2
    images = pair.repeat(3, 1)
    assert task_kind("classification").loss(images, torch.tensor([0, 1, -1])).item() == pytest.approx(expected)
    pixels = pair.view(1, 2, 1, 1).expand(1, 2, 1, 3)
    assert task_kind("segmentation").loss(pixels, torch.tensor([[[0, 1, 255]]])).item() == pytest.approx(expected)


def test_divergence_by_hand() -> None:
    student, teacher = torch.log(torch.tensor([[1.0, 3.0]])), torch.log(torch.tensor([[1.0, 1.0]]))
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert task_kind("classification").distill(student, teacher).item() == pytest.approx(expected)
    flat = (student.view(1, 2, 1, 1).expand(1, 2, 4, 5), teacher.view(1, 2, 1, 1).expand(1, 2, 4, 5))
    assert task_kind("segmentation").distill(*flat).item() == pytest.approx(expected)


def test_accuracy_by_hand() -> None:
    prediction = torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0]])
    result = measured("classification", prediction, torch.tensor([1, 1, 1, -1]))
    assert result == {"error": pytest.approx(1 / 3), "accuracy": pytest.approx(200 / 3)}


def test_depth_by_hand() -> None:
    truth = torch.tensor([2.0, 4.0, 5.0, 0.0, math.nan, -3.0]).view(1, 1, 2, 3)
    guess = torch.tensor([3.0, 4.0, 4.5, 9.0, 9.0, 9.0]).view(1, 1, 2, 3)
    result = measured("depth", guess, truth)
    rmse = math.sqrt((1 + 0 + 0.25) / 3)
    assert result["rmse_m"] == result["error"] == pytest.approx(rmse)
    assert result["rel"] == pytest.approx((0.5 + 0 + 0.1) / 3)
    assert result["delta1"] == pytest.approx(100 * 2 / 3)  # 3 for 2 is 1.5 times too far
    assert task_kind("depth").loss(guess, truth).item() == pytest.approx((1 + 0 + 0.5) / 3)
    assert task_kind("depth").distill(guess, guess + 0.25).item() == pytest.approx(0.25)


def test_a_depth_that_is_not_positive_is_never_close() -> None:
    truth = torch.full((1, 1, 1, 2), 0.5)
    assert measured("depth", torch.tensor([-0.5, 0.0]).view(1, 1, 1, 2), truth)["delta1"] == 0


def test_rmse_pools_pixels() -> None:
    meter = task_kind("depth").meter()
    meter.update(torch.full((1, 1, 1, 1), 5.0), torch.full((1, 1, 1, 1), 1.0))
    meter.update(torch.full((1, 1, 1, 3), 2.0), torch.full((1, 1, 1, 3), 2.0))
    assert meter.result()["rmse_m"] == pytest.approx(math.sqrt(16 / 4))


def turned(degrees: list[float], length: float = 1.0) -> torch.Tensor:
    """Vectors (1, 3, 1, n) that are so many degrees from (0, 0, -1)."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return (length * torch.stack([angle.sin(), torch.zeros_like(angle), -angle.cos()]))[None, :, None].float()


def test_normals_by_hand() -> None:
    degrees = [0.0, 0.01, 5.0, 11.0, 12.0, 45.0, 90.0, 179.0]
    truth = turned([0.0] * len(degrees))
    result = measured("normals", turned(degrees, length=3.7), truth)
    assert result["mean_deg"] == result["error"] == pytest.approx(sum(degrees) / len(degrees), abs=1e-3)
    assert result["within_11"] == pytest.approx(100 * 4 / 8)
    assert measured("normals", turned([0.01]), turned([0.0]))["mean_deg"] == pytest.approx(0.01, rel=1e-2)
    # |sin| + |1 - cos| is the sum over x, y, z of the absolute error of a vector turned by an angle.
    expected = np.mean([math.sin(math.radians(d)) + 1 - math.cos(math.radians(d)) for d in degrees])
    assert task_kind("normals").loss(turned(degrees, length=3.7), truth).item() == pytest.approx(expected, abs=1e-5)
    assert task_kind("normals").distill(turned(degrees), truth * 2).item() == pytest.approx(expected, abs=1e-5)


def test_median_angle_equals_numpy_to_a_twentieth_of_a_degree() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 101, 5000):
        degrees = rng.gamma(2.0, 12.0, count).clip(0, 180)
        median = measured("normals", turned(degrees.tolist()), turned([0.0] * count))["median_deg"]
        tolerance = 0.05 if count % 2 else 0.05 + np.ptp(np.sort(degrees)[count // 2 - 1 : count // 2 + 1])
        assert median == pytest.approx(np.median(degrees), abs=tolerance)


def test_a_vector_without_direction_is_a_right_angle_off_and_its_gradient_is_finite() -> None:
    zero, truth = torch.zeros(1, 3, 1, 2, requires_grad=True), turned([0.0, 30.0])
    assert measured("normals", zero, truth)["mean_deg"] == 90
    task_kind("normals").loss(zero, truth).backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_a_network_that_diverged_is_measured_as_nan_and_does_not_stop_the_evaluation() -> None:
    for kind, channels, target in (("depth", 1, torch.ones(1, 1, 2, 2)), ("normals", 3, turned([0.0] * 4).view(1, 3, 2, 2))):
        assert math.isnan(measured(kind, torch.full((1, channels, 2, 2), math.nan), target)["error"])
