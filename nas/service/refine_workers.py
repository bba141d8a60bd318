"""What refining a network does in worker processes. Workers write weights into the job's folder; the driver owns the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hw_profiles.counting import count_cost
from nas.core import ArchConfig, JobSpec, UserError, policy_of, with_policy, without_policy
from nas.core.refinement import channels_of, inherited_arch, narrowed_arch, refined_arch
from nas.data import MultiTaskData
from nas.service.candidates import CandidateFiles, checked_metrics
from nas.service.executors.executor import Report
from nas.service.job_data import job_data
from nas.service.pictures import sample_sheet
from nas.service.workers import CHECKPOINT, job_definition, job_evaluator
from nas.supernet import Supernet
from nas.train.checkpoint import load_checkpoint, part
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator, evaluate_module
from nas.train.finetune import Given, epochs_of, evenly, finetuner, load_refined, mean_losses, relative_error, save_refined
from nas.train.pruning import PRUNING_IMAGES, pagcp

START = "start.safetensors"  # the network before it is trained further
REFINED = "refined.safetensors"
KEPT_MULTIPLE = (
    8  # of channels that stay in a pruned group: kernels take them by eights, and other numbers cost more time than they save
)


@dataclass(frozen=True)
class Start:
    """The network that is trained further.

    Attributes:
        reference: Error of each task of the subnet as it was inherited, on the validation split: what 1 is in a score.
        channels: Channels that pruning left, by group.
        macs: Multiply-accumulates before and after pruning.
        growth: By how much pruning raised each task's loss on the calibration images, as a share.
    """

    reference: dict[str, float]
    channels: dict[str, int]
    macs: tuple[float, float]
    growth: dict[str, float]


class RefineWorker:
    """Makes the network to begin with, and measures the one that came of it.

    Args:
        spec: The job.
        folder: Of the job.
        threads: Of torch.
    """

    def __init__(self, spec: JobSpec, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._spec, self._folder = spec, folder

    def start(self, arch: ArchConfig, growth: float | None, folder: Path) -> Start:
        """Write the subnet, pruned where `growth` says how much its losses may grow by it, into `folder`.

        Raises:
            UserError: The job has no validation images, or pruning finds no channel that can go.
        """
        evaluator = job_evaluator(self._spec, self._folder)
        data = evaluator.data
        if not len(data.val):
            raise UserError(
                "learning rates are compared on validation images: this job has none; set data.val_fraction above 0"
            )
        subnet = inherited_arch(without_policy(arch))
        net = evaluator.module(subnet)
        errors = _errors(evaluate_module(net, data.val, data.tasks))
        macs = count_cost(net, data.input)["macs"]
        start = Start(errors, {}, (macs, macs), {})
        if growth is not None:
            images = evenly(data.train, PRUNING_IMAGES)
            pruning = pagcp(net, data.input, lambda each: mean_losses(each, images, data.tasks), growth, multiple=KEPT_MULTIPLE)
            if not pruning.channels:
                raise UserError(
                    f"pruning removes channels whose loss grows by less than the bound: within {growth:g} none can go; "
                    "allow more with --prune-loss"
                )
            grown = {task: pruning.after[task] / pruning.before[task] - 1 for task in pruning.before}
            net, start = (
                pruning.net,
                Start(errors, pruning.channels, (macs, count_cost(pruning.net, data.input)["macs"]), grown),
            )
        folder.mkdir(parents=True, exist_ok=True)
        save_refined(net, narrowed_arch(subnet, start.channels), folder / START)
        return start

    def finish(self, arch: ArchConfig, folder: Path, run: str) -> tuple[ArchConfig, str, tuple[dict[str, float], bytes, bytes]]:
        """Write the weights of a run and measure its network on the test split.

        Args:
            arch: The subnet, with its policy.
            folder: Of all runs.
            run: Name of the one.

        Returns:
            The refined architecture, with the policy of `arch`; the digest of its weights' file; and metrics, the ONNX file
            and a picture of some predictions.
        """
        data = job_data(self._spec, self._folder)
        given, narrow = _given(self._spec, folder / START, data)
        supernet = Supernet(given)
        tensors, _ = load_checkpoint(folder / run / CHECKPOINT)
        supernet.load_state_dict(part(tensors, "model.supernet."))
        device = choose_compute(self._spec.training).device
        supernet.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        evaluator = Evaluator(supernet, data.to(device), self._spec.search.calibration_images)
        net = evaluator.module(given.space.largest())
        weights = save_refined(net, narrow, folder / REFINED)
        refined = with_policy(refined_arch(narrow, channels_of(narrow), weights), policy_of(arch))
        content = CandidateFiles(self._spec, evaluator.data, self._folder).content(net, refined)
        metrics = count_cost(net, data.input) | checked_metrics(content, data, data.test)
        return refined, weights, (metrics, content, sample_sheet(net, evaluator.data.test, data.tasks))


def train_refined(config: dict[str, Any], report: Report) -> None:
    """Train the network of `RefineWorker.start` at one learning rate.

    Args:
        config: ``spec`` (the job), ``job_folder``, ``folder`` (of all runs), ``name`` (of this run, and of its folder),
            ``learning_rate``, ``epochs``, ``reference`` and ``threads``.
        report: Is given a row per epoch with ``epoch``, ``score`` (where it was validated) and ``errors``.
    """
    torch.set_num_threads(int(config["threads"]))
    spec: JobSpec = config["spec"]
    data = job_data(spec, Path(config["job_folder"]))
    tensors, _ = load_checkpoint(Path(config["job_folder"]) / CHECKPOINT)
    balancer = part(tensors, "model.balancer.")
    recipe = replace(spec.training, subnets=1, epochs=config["epochs"], learning_rate=config["learning_rate"])
    folder = Path(config["folder"])
    given, _ = _given(spec, folder / START, data)
    trainer = finetuner(given, data, recipe, spec.seed, folder / config["name"], balancer)
    for epoch in epochs_of(trainer):
        prefix = "val.largest.error."
        errors = {n.removeprefix(prefix): value for n, value in epoch.curves.items() if n.startswith(prefix)}
        compared = {"score": relative_error(errors, config["reference"]), "errors": errors} if errors else {}
        report({"epoch": epoch.epoch, "epochs": epoch.epochs, "step": epoch.step, **compared})


def _given(spec: JobSpec, path: Path, data: MultiTaskData) -> tuple[Given, ArchConfig]:
    net, arch = load_refined(path, job_definition(spec, data))
    return Given(net, arch, data.tasks, data.input), arch


def _errors(metrics: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("error."): value for name, value in metrics.items() if name.startswith("error.")}
