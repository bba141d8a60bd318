"""What a user asks for, as values; `nas.service.jobfile` reads them from YAML and checks them against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from nas.core.device import Device
from nas.core.objective import Objective

JobId = str


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """Which search space, and its options (the keyword arguments of the space's definition)."""

    name: str = "slimmable"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task of the data set that the job wants, with the weight of its loss."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Which data.

    Attributes:
        name: A built-in data set, or ``python:package.module:function`` for the user's own.
        path: Where its files are, for those that need any.
        options: Keyword arguments of the loader.
        val_fraction: Share of the training images that the search validates on; they are never trained on. The test
            split is kept for verifying the front.
    """

    name: str = "scenes"
    path: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    val_fraction: float = 0.15


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """How the supernet is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step, over all workers.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        subnets: Subnets per step: the largest, the smallest, the rest random (the sandwich rule).
        distillation: Share, in [0, 1], of the smaller subnets' loss that comes from the largest one's predictions
            rather than from the truth (in-place distillation).
        encoder_distillation: Weight of the configuration-invariant distillation of the encoder's features.
        balancing: ``equal``, ``fixed`` (the tasks' weights), ``uncertainty`` (learned) or ``svd`` (what tasks share).
        workers: Data-parallel training processes.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto`` (bf16 where the processor has it), ``fp32`` or ``bf16``.
        augment: Whether training images are flipped and jittered.
        twins: Whether each task is also trained alone, as the zero of ``delta_m``.
        twin_epochs: Epochs of a twin; None means as many as the supernet.
        reuse: Id of a job of the same store whose trained supernet is taken instead of training one, with what was
            measured of its subnets; space, tasks, data and seed have to be the same. None trains.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    subnets: int = 4
    distillation: float = 0.5
    encoder_distillation: float = 0.1
    balancing: Literal["equal", "fixed", "uncertainty", "svd"] = "equal"
    workers: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    augment: bool = True
    twins: bool = False
    twin_epochs: int | None = None
    reuse: str | None = None


@dataclass(frozen=True, slots=True)
class DifferentiableSpec:
    """How the sampler ``differentiable`` looks for where the tasks part. Each strength is a search of its own.

    Attributes:
        epochs: Passes over the training images per strength.
        strengths: Weights of the cost of sharing beside the losses: the larger, the more is shared.
        resource: What a branch costs: its ``macs``, or its share of the predicted ``latency`` on the job's first device.
        start: Where logits begin: at ``zeros``, which prefer no branch, or where the tasks' ``affinity`` puts them.
        learning_rate: Of the logits that say which branch a task takes.
    """

    epochs: int = 10
    strengths: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1)
    resource: Literal["macs", "latency"] = "macs"
    start: Literal["zeros", "affinity"] = "zeros"
    learning_rate: float = 0.1


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How the trained supernet is searched.

    Attributes:
        sampler: ``predictor``, ``linas``, ``tpe``, ``nsga2``, ``random``, or ``differentiable`` where tasks can part.
        evaluations: Candidates whose accuracy is measured on the validation split.
        batch_size: Candidates asked for at a time.
        workers: Evaluation processes.
        profile_samples: Subnets whose latency is measured to fit the latency predictor.
        calibration_images: Training images that re-estimate the batch-norm statistics of a candidate.
        verify: Most candidates measured again in full for the final front.
        screening: Share, in (0, 1), of the validation and the calibration images that twice as many candidates are scored
            on first; the promising half is then scored on all of them. None scores every candidate on all.
        differentiable: Of the sampler of that name.
    """

    sampler: Literal["predictor", "linas", "tpe", "nsga2", "random", "differentiable"] = "predictor"
    evaluations: int = 100
    batch_size: int = 8
    workers: int = 1
    profile_samples: int = 40
    calibration_images: int = 256
    verify: int = 24
    screening: float | None = None
    differentiable: DifferentiableSpec = field(default_factory=DifferentiableSpec)


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """Whether the precision of every block of the network is part of what is searched.

    Attributes:
        search: Adds a choice ``precision.BLOCK`` per block to the space; each candidate is then judged by its own ONNX file.
        calibration_images: Training images that give the ranges of a candidate's activations.
        max_loss: Most relative loss of a task's error for which quantizing one block alone may pay; options that lose more
            are left out of the search.
    """

    search: bool = False
    calibration_images: int = 32
    max_loss: float = 0.1


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job: everything a run depends on.

    Attributes:
        name: For people.
        tasks: At least one.
        objectives: At least two.
        devices: Names of the devices that latency is measured on.
        targets: The devices themselves, as they were when the job was made: their files may change, or be on another machine.
            Empty in jobs of earlier versions, whose `devices` are names or paths.
        executor: ``ray``, or ``local`` for one process without Ray.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    objectives: tuple[Objective, ...]
    space: SpaceSpec = field(default_factory=SpaceSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    search: SearchSpec = field(default_factory=SearchSpec)
    quantization: QuantizationSpec = field(default_factory=QuantizationSpec)
    devices: tuple[str, ...] = ("local",)
    executor: Literal["ray", "local"] = "ray"
    seed: int = 0
    targets: tuple[Device, ...] = ()

    @property
    def predicts_latency(self) -> bool:
        """Whether the search asks for latencies: as an objective, to search precisions, or as the cost of parting tasks."""
        relaxed = self.search.sampler == "differentiable" and self.search.differentiable.resource == "latency"
        return any(objective.device for objective in self.objectives) or self.quantization.search or relaxed


class Stage(StrEnum):
    """The stages of a job. Training and profiling run at once; each of the others needs those before it."""

    TRAIN = "train"
    TWINS = "twins"
    PROFILE = "profile"
    FIT = "fit"
    SENSITIVITY = "sensitivity"
    SEARCH = "search"
    VERIFY = "verify"


class JobState(StrEnum):
    """Where a job stands. A job whose driver is silent is shown as interrupted, or as cancelled where that was asked for."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DONE = "done"


class StageState(StrEnum):
    """Where a stage stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
