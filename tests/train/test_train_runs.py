"""Training runs: resumed bit for bit, of one network alone, and on real images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import SPEC, tiny_data, tiny_definition

from nas.core import DataSpec, DeviceError, TaskSpec, TrainingSpec
from nas.data import load_data
from nas.supernet import Alone
from nas.train.balancing import BALANCERS
from nas.train.checkpoint import load_checkpoint, training_tensors
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator
from nas.train.trainer import EpochReport, Trainer
from search_spaces import make_space

DATA = tiny_data()
DEFINITION = tiny_definition(DATA)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training_tensors(trainer.model, trainer.optimizer).items()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different


def run(trainer: Trainer, epochs: int) -> list[EpochReport]:
    return [trainer.run_epoch() for _ in range(epochs)]


@pytest.mark.parametrize("balancing", BALANCERS)
def test_a_resumed_run_is_the_run_that_was_not_stopped(balancing: str, tmp_path: Path) -> None:
    spec = replace(SPEC, balancing=balancing)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    torch.manual_seed(1)
    whole = Trainer(DEFINITION, DATA, spec, 5, tmp_path / "whole")
    reports = run(whole, 3)
    torch.manual_seed(2)  # what the caller did with torch's own generator has no part in it
    parts = run(Trainer(DEFINITION, DATA, spec, 5, tmp_path / "parts"), 2)
    resumed = Trainer(DEFINITION, DATA, spec, 5, tmp_path / "parts")
    assert (resumed.epoch, resumed.step, resumed.done) == (2, 6, False)
    parts += run(resumed, 1)
    assert_equal(state(whole), state(resumed))
    assert parts == reports  # losses, validation errors, learning rates and digests of the checkpoints
    assert resumed.done
    assert Trainer(DEFINITION, DATA, spec, 5, tmp_path / "parts").done


def test_another_seed_is_another_run() -> None:
    one, other = (Trainer(DEFINITION, DATA, SPEC, seed) for seed in (5, 6))
    run(one, 1)
    run(other, 1)
    assert not torch.equal(one.supernet.shared.stem[0].weight, other.supernet.shared.stem[0].weight)


def test_making_a_trainer_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Trainer(DEFINITION, DATA, SPEC, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_depth_starts_at_the_mean_of_what_is_known() -> None:
    data = tiny_data()
    depth = data.train.targets["depth"]
    depth[0], depth[1, 0, 0], depth[2, 0, 1] = 0.0, math.nan, -1.0
    known = [value for value in depth.flatten().tolist() if value > 0]
    head = Trainer(DEFINITION, data, SPEC, 0).supernet.shared.heads()["depth"]
    assert head.bias is not None
    assert head.bias.item() == pytest.approx(sum(known) / len(known), rel=1e-5)


def test_reports_of_a_run(tmp_path: Path) -> None:
    trainer = Trainer(DEFINITION, DATA, SPEC, 0, tmp_path)
    reports = run(trainer, 3)
    assert [(r.epoch, r.epochs, r.step) for r in reports] == [(1, 3, 3), (2, 3, 6), (3, 3, 9)]
    tasks = [task.name for task in DATA.tasks]
    curves = {f"loss.{t}" for t in tasks} | {f"val.{size}.error.{t}" for size in ("largest", "smallest") for t in tasks}
    assert set(reports[-1].curves) == curves | {"learning_rate"}
    rates = [r.curves["learning_rate"] for r in reports]
    assert max(rates) <= SPEC.learning_rate
    assert rates[-1] < rates[0]
    _, facts = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert {name: facts[name] for name in ("epoch", "step", "seed")} == {"epoch": 3, "step": 9, "seed": 0}


def test_a_network_alone_trains_as_a_plain_network_does() -> None:
    arch = DEFINITION.space.smallest()
    alone = Alone(DEFINITION, arch)
    trainer = Trainer(alone, DATA, replace(SPEC, epochs=1), 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        start = DEFINITION.build(arch)
    fresh = Trainer(alone, DATA, replace(SPEC, epochs=1), 4).supernet.shared.state_dict()
    different = [name for name, tensor in start.state_dict().items() if not torch.equal(tensor, fresh[name])]
    assert different == ["decoders.depth.head.bias"]  # starts at the mean depth
    report = trainer.run_epoch()
    assert not [name for name in report.curves if "smallest" in name]
    moved = trainer.supernet.shared.state_dict()
    assert all(not torch.equal(moved[name], fresh[name]) for name in dict(start.named_parameters()))


def test_a_short_training_on_real_digits_beats_chance() -> None:
    data = load_data(DataSpec("digits", val_fraction=0.2), [TaskSpec("digit"), TaskSpec("parity")], seed=0)
    options = {"channels": (8, 16), "decoder_channels": 16, "widths": (0.5, 1.0), "resolutions": (0.5,)}
    definition = make_space("slimmable", options, data.tasks, data.input)
    spec = TrainingSpec(epochs=3, batch_size=32, subnets=2, learning_rate=2e-2, device="cpu", precision="fp32", augment=False)
    trainer = Trainer(definition, data, spec, 0)
    reports = run(trainer, 3)
    assert reports[-1].curves["loss.digit"] < 0.5 * reports[0].curves["loss.digit"]
    trainer.supernet.eval()
    evaluator = Evaluator(trainer.supernet, data, calibration_images=128)
    largest = evaluator.evaluate(definition.space.largest(), "test")
    smallest = evaluator.evaluate(definition.space.smallest(), "test")
    assert largest["accuracy.digit"] > 80  # chance: 10
    assert smallest["accuracy.digit"] > 60
    assert largest["accuracy.parity"] > 85  # chance: 50


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_there_is_an_error_of_the_user() -> None:
    with pytest.raises(DeviceError, match="torch sees no CUDA device here; write auto or cpu"):
        choose_compute(TrainingSpec(device="cuda"))
    assert choose_compute(TrainingSpec(device="auto")).device.type == "cpu"


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_what_the_job_asks_for(precision: str, kind: torch.dtype) -> None:
    compute = choose_compute(replace(SPEC, precision=precision))
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind
