"""What runs in worker processes. Workers read the job's folder and return values; only the driver writes to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hw_profiles.counting import count_cost
from hw_profiles.devices import fingerprint
from hw_profiles.node_times import node_times
from hw_profiles.operators import operators
from hw_profiles.timing import LatencyMeter
from nas.core import ArchConfig, Device, Fingerprint, JobSpec, Latency
from nas.core.operator import Operator, OperatorTime
from nas.core.stopwatch import Stopwatch
from nas.data import MultiTaskData, Split
from nas.service.candidates import CandidateFiles, checked_metrics, file_metrics
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
        self._files = CandidateFiles(spec, self._evaluator.data, folder)
        self._asks_size = any(objective.metric == "size_bytes" for objective in spec.objectives)

    def evaluate(self, arch: ArchConfig, split: SplitName) -> dict[str, float]:
        """Return the tasks' metrics, what is counted of one subnet, and how long it took (`nas.core.stopwatch`)."""
        return self._evaluate(self._evaluator, arch, getattr(self._evaluator.data, split))[0]

    def evaluate_file(self, arch: ArchConfig, split: SplitName) -> tuple[dict[str, float], bytes]:
        """Return what `evaluate` returns, and the file to time, for a job that searches precisions."""
        return self._evaluate(self._evaluator, arch, getattr(self._evaluator.data, split))

    def screen(self, arch: ArchConfig, share: float) -> dict[str, float]:
        """Return what `evaluate` returns, from a share of the calibration images and of the validation images."""
        whole = self._evaluator
        images = max(2, round(share * self._spec.search.calibration_images))
        return self._evaluate(Evaluator(whole.supernet, whole.data, images), arch, part_of(whole.data.val, share))[0]

    def verify(self, arch: ArchConfig) -> tuple[dict[str, float], bytes, bytes]:
        """Return the metrics of one subnet's file on the test split, the file, and a picture of some predictions."""
        data, watch = self._evaluator.data, Stopwatch()
        with watch.part("batch_norms"):
            module = self._evaluator.module(arch)
        with watch.part("export"):
            content = self._files.content(module, arch)
        with watch.part("accuracy"):
            metrics = self._count(module) | checked_metrics(content, data, data.test)
        return metrics | watch.named(), content, sample_sheet(module, data.test, data.tasks)

    def _evaluate(self, evaluator: Evaluator, arch: ArchConfig, split: Split) -> tuple[dict[str, float], bytes]:
        """Return metrics and the file; where precisions are searched, the file's own metrics, else torch's and no file.

        The size of a network is that of its file, which is then made for its size alone where the size is an objective.
        """
        data, watch = self._evaluator.data, Stopwatch()
        with watch.part("batch_norms"):
            module = evaluator.module(arch)
        if not self._spec.quantization.search:
            with watch.part("accuracy"):
                metrics = evaluate_module(module, split, data.tasks) | self._count(module)
            if self._asks_size:
                with watch.part("export"):
                    metrics["size_bytes"] = float(len(self._files.content(module, arch)))
            return metrics | watch.named(), b""
        with watch.part("export"):
            content = self._files.content(module, arch)
        with watch.part("accuracy"):
            metrics = self._count(module) | file_metrics(content, data, split)
        return metrics | watch.named(), content

    def _count(self, module: MultiTaskNet) -> dict[str, float]:
        return count_cost(module, self._evaluator.data.input)


class FileWorker:
    """Makes the files of untrained subnets, for a device to time; it runs where the job's folder is, not on the device.

    Args:
        spec: The job.
        folder: Of the job; None for networks of no job.
    """

    def __init__(self, spec: JobSpec, folder: Path | None) -> None:
        torch.set_num_threads(1)
        data = job_data(spec, folder)
        self._definition, self._files = job_definition(spec, data), CandidateFiles(spec, data, folder)

    def file(self, arch: ArchConfig) -> tuple[bytes, dict[str, float]]:
        """Return the file of an architecture and what is counted of it; its weights do not matter."""
        module = self._definition.build(arch).eval()
        (content,) = self._files.untrained(module, [arch])
        return content, count_cost(module, self._definition.input) | {"size_bytes": float(len(content))}

    def files(self, archs: Sequence[ArchConfig]) -> list[bytes]:
        """Return the files of one network in several precisions."""
        return self._files.untrained(self._definition.build(archs[0]).eval(), archs)


class ProfileWorker:
    """Measures files on one device. It needs the device and the files: no data, no job's folder.

    Args:
        device: What is measured on.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._meter: LatencyMeter | None = None

    def calibrate(self) -> tuple[Fingerprint, float]:
        """Return what is measured on, and the reference network's milliseconds there."""
        return fingerprint(self._device), LatencyMeter(self._device).calibrate()

    def use_reference(self, reference_ms: float) -> None:
        """Express latencies in the milliseconds of a device whose reference network takes `reference_ms`."""
        self._meter = LatencyMeter(self._device, reference_ms)

    def profile(self, content: bytes, budget_s: float | None = None) -> tuple[Latency, tuple[OperatorTime, ...]]:
        """Return the latency of a file and its timed operators."""
        latency = self.measure(content, False, budget_s)
        return latency, node_times(content, self._device, latency.ms)

    def list_operators(self, contents: Sequence[bytes]) -> list[tuple[Operator, ...]]:
        """Return what ONNX Runtime runs for each file, untimed."""
        return [operators(content, self._device) for content in contents]

    def measure(self, content: bytes, thorough: bool = True, budget_s: float | None = None) -> Latency:
        """Return the latency of a file; thoroughly for numbers that are shown and compared.

        Args:
            content: Of the file.
            thorough: With more sessions.
            budget_s: How long to go on for quiet moments; None is the meter's own patience.
        """
        assert self._meter is not None, "give the reference first"
        if thorough:
            return self._meter.measure_thoroughly(content, budget_s=30.0 if budget_s is None else budget_s)
        return self._meter.measure(content, budget_s=10.0 if budget_s is None else budget_s)


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
