"""A subnet's accuracy: the same in every evaluator, and that of its extracted, recalibrated network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import SPEC, tiny_data, tiny_definition

from nas.core import ArchConfig
from nas.data import MultiTaskData
from nas.supernet import Supernet
from nas.train.evaluator import Evaluator
from nas.train.trainer import Trainer

DATA = tiny_data()
DEFINITION = tiny_definition(DATA)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    trainer = Trainer(DEFINITION, DATA, SPEC, 0)
    trainer.run_epoch()
    return trainer.supernet.eval()


def some_archs() -> list[ArchConfig]:
    rng = np.random.default_rng(0)
    return [DEFINITION.space.smallest(), DEFINITION.space.largest(), DEFINITION.space.sample(rng)]


def test_every_evaluator_gives_the_same(supernet: Supernet) -> None:
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    one, other = Evaluator(supernet, DATA, 10), Evaluator(supernet, DATA, 10)
    found = [one.evaluate(arch) for arch in some_archs()]
    torch.manual_seed(123)
    assert [other.evaluate(arch) for arch in reversed(some_archs())] == found[::-1]
    assert one.evaluate(some_archs()[0]) == found[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def by_hand(supernet: Supernet, arch: ArchConfig, data: MultiTaskData, images: list[int]) -> dict[str, float]:
    """Return errors on the validation split, statistics taken from one batch of training images."""
    module = supernet.extract(arch).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of the last batch alone
    with torch.no_grad():
        module(data.train.inputs[images].float() / 255)
        outputs = module.eval()(data.val.inputs.float() / 255)
    targets = data.val.targets
    seg, truth = outputs["seg"].argmax(1), targets["seg"]
    ious = [
        float(((seg == c) & (truth == c)).sum() / ((seg == c) | (truth == c)).sum())
        for c in range(4)
        if ((seg == c) | (truth == c)).any()
    ]
    return {
        "error.room": 1 - float((outputs["room"].argmax(1) == targets["room"]).float().mean()),
        "error.depth": float((outputs["depth"] - targets["depth"]).square().mean().sqrt()),
        "error.seg": 1 - sum(ious) / len(ious),
    }


def test_metrics_are_those_of_the_recalibrated_network(supernet: Supernet) -> None:
    for arch in some_archs():
        expected = by_hand(supernet, arch, DATA, [0, 2, 4, 7, 9, 12, 14, 16, 19, 21])  # ten of 24, evenly spread
        found = Evaluator(supernet, DATA, 10).evaluate(arch)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_splits_are_evaluated_by_name(supernet: Supernet) -> None:
    evaluator, arch = Evaluator(supernet, DATA, 24), some_archs()[1]
    module = evaluator.module(arch)
    with torch.no_grad():
        room = module(DATA.test.inputs.float() / 255)["room"].argmax(1)
    expected = 100 * float((room == DATA.test.targets["room"]).float().mean())
    assert evaluator.evaluate(arch, "test")["accuracy.room"] == pytest.approx(expected)


def test_more_calibration_images_than_there_are_means_all(supernet: Supernet) -> None:
    arch = some_archs()[0]
    assert Evaluator(supernet, DATA, 10_000).evaluate(arch) == Evaluator(supernet, DATA, 24).evaluate(arch)


def test_a_last_batch_of_one_image_can_be_calibrated_on() -> None:
    data = tiny_data(train=65, side=8)
    definition = tiny_definition(data, stem_stride=4)  # the coarsest features are 1 × 1: one value per channel and image
    torch.manual_seed(0)
    supernet = Supernet(definition).eval()
    metrics = Evaluator(supernet, data, 65).evaluate(definition.space.smallest())
    assert all(np.isfinite(value) for value in metrics.values())
