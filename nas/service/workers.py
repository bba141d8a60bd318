"""What runs in worker processes. Workers read the job's folder and return values; only the driver writes to the store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch

from hw_profiles.counting import count_cost
from hw_profiles.devices import fingerprint, job_device
from hw_profiles.node_times import node_times
from hw_profiles.operators import operators
from hw_profiles.timing import LatencyMeter
from nas.core import ArchConfig, Fingerprint, JobId, JobSpec, Latency, policy_of
from nas.core.operator import Operator, OperatorTime
from nas.data import MultiTaskData, Split
from nas.export import quantize, to_onnx
from nas.service.candidates import calibration_images, candidate_file, checked_metrics, file_metrics
from nas.service.job_data import job_data
from nas.service.pictures import sample_sheet
from nas.service.screening import part_of
from nas.supernet import Alone, MultiTaskNet, SpaceDefinition, Supernet
from nas.train.checkpoint import load_checkpoint, part
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator, SplitName, evaluate_module
from nas.train.trainer import EpochReport, Trainer
from search_spaces import make_space
from search_spaces.precision import WithPrecision

CHECKPOINT = "checkpoint.safetensors"


def job_definition(spec: JobSpec, data: MultiTaskData) -> SpaceDefinition:
    """Return the search space of a job with its networks."""
    return make_space(spec.space.name, spec.space.options, data.tasks, data.input)


def searched_definition(spec: JobSpec, data: MultiTaskData) -> SpaceDefinition:
    """Return what a job searches: its space, with the precision of every block where that is asked for."""
    definition = job_definition(spec, data)
    return WithPrecision(definition) if spec.quantization.search else definition


def job_evaluator(spec: JobSpec, folder: Path, data: MultiTaskData | None = None) -> Evaluator:
    """Return an evaluator of a job's trained supernet."""
    data = data or job_data(spec, folder)
    supernet = Supernet(job_definition(spec, data))
    tensors, _ = load_checkpoint(folder / CHECKPOINT)
    supernet.load_state_dict(part(tensors, "model.supernet."))
    device = choose_compute(spec.training).device
    supernet.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Evaluator(supernet, data.to(device), spec.search.calibration_images)


class TrainWorker:
    """One of the data-parallel training processes.

    Args:
        spec: The job.
        folder: Of the job; its data is there.
        workplace: Of the driver; checkpoints are written there.
        rank: Which process this is.
        world: How many there are.
        meeting: File at which they meet.
        threads: Of torch.
    """

    def __init__(
        self, spec: JobSpec, folder: Path, workplace: Path, rank: int, world: int, meeting: Path | None, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        data = job_data(spec, folder)
        self._trainer = Trainer(
            job_definition(spec, data), data, spec.training, spec.seed, workplace, rank=rank, world=world, meeting=meeting
        )

    def last(self) -> EpochReport | None:
        """Return what came of the last epoch before, which a driver that died may not have written down."""
        return self._trainer.last

    def run_epoch(self) -> EpochReport:
        """Train one epoch."""
        return self._trainer.run_epoch()


class EvalWorker:
    """Evaluates subnets of the trained supernet.

    Args:
        spec: The job.
        folder: Of the job; holds the checkpoint.
        threads: Of torch.
    """

    def __init__(self, spec: JobSpec, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._spec = spec
        self._evaluator = job_evaluator(spec, folder)

    def evaluate(self, arch: ArchConfig, split: SplitName) -> dict[str, float]:
        """Return the tasks' metrics and what is counted of one subnet."""
        return self._metrics(self._evaluator.module(arch), arch, getattr(self._evaluator.data, split))[0]

    def evaluate_file(self, arch: ArchConfig, split: SplitName) -> tuple[dict[str, float], bytes]:
        """Return what `evaluate` returns, and the file to time, for a job that searches precisions."""
        return self._metrics(self._evaluator.module(arch), arch, getattr(self._evaluator.data, split))

    def screen(self, arch: ArchConfig, share: float) -> dict[str, float]:
        """Return what `evaluate` returns, from a share of the calibration images and of the validation images."""
        whole = self._evaluator
        images = max(2, round(share * self._spec.search.calibration_images))
        module = Evaluator(whole.supernet, whole.data, images).module(arch)
        return self._metrics(module, arch, part_of(whole.data.val, share))[0]

    def verify(self, arch: ArchConfig, job: JobId) -> tuple[dict[str, float], bytes, bytes]:
        """Return the metrics of one subnet's file on the test split, the file, and a picture of some predictions."""
        data = self._evaluator.data
        module = self._evaluator.module(arch)
        content = candidate_file(module, arch, job, self._spec, data)
        metrics = self._count(module) | checked_metrics(content, data, data.test)
        return metrics, content, sample_sheet(module, data.test, data.tasks)

    def _metrics(self, module: MultiTaskNet, arch: ArchConfig, split: Split) -> tuple[dict[str, float], bytes]:
        """Return metrics and the file; where precisions are searched, the file's own metrics, else torch's and no file."""
        data = self._evaluator.data
        if not self._spec.quantization.search:
            return evaluate_module(module, split, data.tasks) | self._count(module), b""
        content = candidate_file(module, arch, "", self._spec, data, fast=True)
        with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(content)
            return self._count(module) | file_metrics(path, data, split), content

    def _count(self, module: MultiTaskNet) -> dict[str, float]:
        return count_cost(module, self._evaluator.data.input)


class ProfileWorker:
    """Measures latency on one device.

    Args:
        spec: The job.
        device: Name of the device.
    """

    def __init__(self, spec: JobSpec, device: str) -> None:
        torch.set_num_threads(1)
        self._spec = spec
        self._device = job_device(spec, device)
        self._data = job_data(spec)
        self._definition = job_definition(spec, self._data)
        self._meter: LatencyMeter | None = None

    def calibrate(self) -> tuple[Fingerprint, float]:
        """Return what is measured on, and the reference network's milliseconds there."""
        return fingerprint(self._device), LatencyMeter(self._device).calibrate()

    def use_reference(self, reference_ms: float) -> None:
        """Express latencies in the milliseconds of a device whose reference network takes `reference_ms`."""
        self._meter = LatencyMeter(self._device, reference_ms)

    def profile(self, arch: ArchConfig) -> tuple[Latency, dict[str, float], tuple[OperatorTime, ...]]:
        """Return the latency, the counted cost and the timed operators of one architecture; its weights do not matter."""
        module = self._definition.build(arch).eval()
        model = candidate_file(module, arch, "", self._spec, self._data, fast=True)
        assert self._meter is not None, "give the reference first"
        latency = self._measured(model, thorough=False)
        return latency, count_cost(module, self._data.input), node_times(model, self._device, latency.ms)

    def list_operators(self, archs: Sequence[ArchConfig]) -> list[tuple[Operator, ...]]:
        """Return what ONNX Runtime runs, untimed, for one network in several precisions.

        What takes long is to export a network: that is done once. One image is enough where ranges do not matter.
        """
        module = self._definition.build(archs[0]).eval()
        images = calibration_images(self._data, 1)
        with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
            path = to_onnx(module, self._data.input, Path(folder) / "model.onnx", self._data.tasks, fast=True)
            model = onnx.load(path)
        files = (quantize(model, policy_of(arch), images).SerializeToString() for arch in archs)
        return [operators(content, self._device) for content in files]

    def measure(self, model: bytes, thorough: bool = True) -> Latency:
        """Return the latency of an ONNX file; thoroughly for numbers that are shown and compared."""
        return self._measured(model, thorough)

    def _measured(self, model: bytes, thorough: bool) -> Latency:
        assert self._meter is not None, "give the reference first"
        if thorough:
            return self._meter.measure_thoroughly(model)
        return self._meter.measure(model)


def train_twin(config: dict[str, Any], report: Any) -> None:
    """Train one task alone on the largest network, with the job's own recipe: the zero of Δm.

    Args:
        config: ``spec`` (the job), ``job_folder``, ``folder`` (of this twin), ``task`` and ``threads``.
        report: Is given a row per epoch, the last one with the metrics on ``val`` and ``test``.
    """
    torch.set_num_threads(int(config["threads"]))
    spec: JobSpec = config["spec"]
    folder = Path(config["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    data = job_data(spec, Path(config["job_folder"]))
    data = data.only([data.task(config["task"])])
    definition = job_definition(spec, data)
    recipe = replace(spec.training, subnets=1, balancing="equal", epochs=spec.training.twin_epochs or spec.training.epochs)
    trainer = Trainer(Alone(definition, definition.space.largest()), data, recipe, spec.seed, folder)
    epoch = trainer.last
    while True:
        if epoch:
            row = {"epoch": epoch.epoch, "epochs": epoch.epochs, "step": epoch.step, "curves": epoch.curves}
            report(row | {"note": epoch.note})
        if trainer.done:
            break
        epoch = trainer.run_epoch()
    trainer.supernet.eval()
    evaluator = Evaluator(trainer.supernet, trainer.data, spec.search.calibration_images)
    arch = trainer.supernet.definition.space.largest()
    splits: Mapping[str, dict[str, float]] = {
        "val": evaluator.evaluate(arch, "val"),
        "test": evaluator.evaluate(arch, "test"),
    }
    report({"epoch": trainer.epoch, "epochs": trainer.epoch, "step": trainer.step, "curves": {}, "metrics": splits})
