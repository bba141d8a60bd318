"""Losses that are no numbers are noticed, and means are means over images, not over batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SPEC, TASKS, tiny_data, tiny_definition

from nas.core import UserError
from nas.export.sensitivity import relative_loss
from nas.supernet import Outputs
from nas.tasks import task_kind
from nas.train.affinity.gradients import gradient_cosines
from nas.train.checkpoint import load_checkpoint
from nas.train.finetune import mean_losses
from nas.train.losses import EpochLosses
from nas.train.parallel import Group
from nas.train.trainer import RETRY_RATE, Trainer, decayed

DATA = tiny_data()
DEFINITION = tiny_definition(DATA)
ALONE = Group(0, 1, None, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def finite(trainer: Trainer) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in trainer.model.state_dict().values())


def test_a_training_that_explodes_goes_on_once_from_the_last_good_weights_at_a_lower_rate(tmp_path: Path) -> None:
    wild = replace(SPEC, balancing="uncertainty", learning_rate=1000.0)
    trainer = Trainer(DEFINITION, DATA, wild, 0, tmp_path)
    report = trainer.run_epoch()
    assert (
        "the gradient is not finite in step 2 (epoch 1, fp32, learning rate 1000); lower training.learning_rate" in report.note
    )
    assert "epoch 1 is trained again" in report.note
    assert finite(trainer)
    assert report.curves["learning_rate"] <= 1000 * RETRY_RATE
    _, facts = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert facts["slowed"] == RETRY_RATE
    resumed = Trainer(DEFINITION, DATA, wild, 0, tmp_path)
    assert resumed.schedule.get_last_lr() == trainer.schedule.get_last_lr()
    for each in (trainer, resumed):  # the run that goes on and the one that was killed end alike
        with pytest.raises(UserError, match=r"in step 4 \(epoch 2, fp32, learning rate 100, after a retry\)"):
            each.run_epoch()


def test_the_retry_is_the_run_that_had_the_lower_rate_from_the_start() -> None:
    wild = Trainer(DEFINITION, DATA, replace(SPEC, balancing="uncertainty", learning_rate=1000.0), 0)
    calm = Trainer(DEFINITION, DATA, replace(SPEC, balancing="uncertainty", learning_rate=1000.0 * RETRY_RATE), 0)
    assert wild.run_epoch().note
    assert not calm.run_epoch().note
    for name, tensor in wild.model.state_dict().items():
        assert torch.equal(tensor, calm.model.state_dict()[name]), name


def test_a_loss_without_end_names_its_task_and_ends_the_training() -> None:
    """The gradient of such an absolute error is finite: nothing but the loss shows it."""
    data = tiny_data()
    data.train.targets["depth"].fill_(3e38)
    with pytest.raises(UserError, match=r"the loss of task depth is not finite in step 1 \(epoch 1, .* after a retry"):
        Trainer(DEFINITION, data, SPEC, 0).run_epoch()


def test_the_first_broken_step_is_found_and_each_is_reported_once() -> None:
    losses = EpochLosses(["a", "b"])
    rows = [([1.0, 2.0], 1.0), ([1.0, math.inf], math.nan), ([math.nan, 1.0], 1.0)]
    for values, norm in rows:
        losses.add(torch.tensor(values), torch.ones(2), torch.tensor(norm))
    found = losses.broken(ALONE)
    assert found is not None
    assert (found.step, found.what) == (1, "the loss of task b")
    losses.add(torch.ones(2), torch.ones(2), torch.tensor(math.inf))
    found = losses.broken(ALONE)
    assert found is not None
    assert (found.step, found.what) == (3, "the gradient")
    losses.add(torch.ones(2), torch.ones(2), torch.tensor(1.0))
    assert losses.broken(ALONE) is None


def test_a_curve_is_the_mean_over_what_has_a_label() -> None:
    losses = EpochLosses(["a", "b"])
    losses.add(torch.tensor([1.0, 0.0]), torch.tensor([30, 0]), torch.tensor(1.0))  # nothing of b was labelled
    losses.add(torch.tensor([4.0, 0.0]), torch.tensor([10, 0]), torch.tensor(1.0))
    means = losses.means()
    assert means["a"] == pytest.approx((30 * 1.0 + 10 * 4.0) / 40)
    assert math.isnan(means["b"])


def test_mean_losses_do_not_depend_on_how_labels_fall_into_batches() -> None:
    """67 images are a batch of 64 and one of 3; most of the last ones have no label."""
    split = tiny_data(train=67).train
    split.targets["room"][60:] = -1
    split.targets["seg"][5:, :9] = 255
    net = DEFINITION.build(DEFINITION.space.smallest()).eval()
    found = mean_losses(net, split, TASKS)
    with torch.no_grad():
        outputs: Outputs = net(split.inputs.float() / 255)
    for task in TASKS:
        target = split.targets[task.name]
        whole = task_kind(task.kind).loss(outputs[task.name], target.float() if task.kind == "depth" else target.long())
        assert found[task.name] == pytest.approx(whole.item(), rel=1e-4)


def test_a_batch_of_few_images_counts_for_few_in_gradient_cosines() -> None:
    net = DEFINITION.build(DEFINITION.space.largest()).eval()
    split = tiny_data(train=9).train
    whole, rest = split.subset(range(8)), split.subset([8])

    def batch(part):  # type: ignore[no-untyped-def]
        targets = {t.name: part.targets[t.name].float() if t.kind == "depth" else part.targets[t.name].long() for t in TASKS}
        return part.inputs.float() / 255, targets

    first, last = (gradient_cosines(net, [batch(part)], TASKS)[0] for part in (whole, rest))
    both, spread = gradient_cosines(net, [batch(whole), batch(rest)], TASKS)
    np.testing.assert_allclose(both, (8 * first + last) / 9, atol=1e-6)
    np.testing.assert_allclose(spread, np.sqrt((8 * (first - both) ** 2 + (last - both) ** 2) / 9), atol=1e-6)


def test_a_task_that_was_not_measured_says_nothing_of_a_quantized_block() -> None:
    assert relative_loss({"a": 0.2, "b": math.nan}, {"a": 0.1, "b": math.nan}) == pytest.approx(1.0)
    assert relative_loss({"a": 0.05, "b": math.nan}, {"a": 0.1, "b": 0.3}) == math.inf
    assert relative_loss({"b": math.nan}, {"b": math.nan}) == 0.0


def test_only_what_multiplies_decays() -> None:
    trainer = Trainer(DEFINITION, DATA, replace(SPEC, balancing="uncertainty"), 0)
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    decay, still = ([names[p] for p in group["params"]] for group in decayed(trainer.model, 0.01))
    assert sorted([*decay, *still]) == sorted(names.values())
    assert all(name.endswith("weight") for name in decay)
    assert {name for name in still if "log_variance" in name} == {f"balancer.log_variance.{task.name}" for task in TASKS}
    assert all("log_variance" in name or dict(trainer.model.named_parameters())[name].ndim == 1 for name in still)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [SPEC.weight_decay, 0.0]
