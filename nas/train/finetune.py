"""A single network trained further from the weights it has, with the code and the recipe that trained the supernet."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.core import ArchConfig, Choice, FloatArray, InputSpec, SearchSpace, Task, TrainingSpec
from nas.core.refinement import channels_of, inherited_arch
from nas.data import MultiTaskData, Split, batches
from nas.supernet import MultiTaskNet, Shapes, SpaceDefinition, View, prefix_views
from nas.tasks import task_kind
from nas.train.checkpoint import load_checkpoint, save_checkpoint
from nas.train.pruning import narrowed
from nas.train.pruning.channels import LayerMacs
from nas.train.trainer import EpochReport, Trainer

BATCH_SIZE = 64
TINY = 1e-12  # an error of zero has no relative change


class Given:
    """A definition whose only network is one that is there already, such as a pruned one, which no picks can build.

    Args:
        net: The network.
        arch: Its architecture.
        tasks: Its tasks.
        input: What it takes.
    """

    def __init__(self, net: MultiTaskNet, arch: ArchConfig, tasks: tuple[Task, ...], input: InputSpec) -> None:
        self.tasks, self.input, self.teacher = tasks, input, arch
        self.space = SearchSpace(f"given:{arch.key}", [Choice(name, (option,)) for name, option in arch.items()])
        self.teacher = arch
        self._net = net

    def build(self, arch: ArchConfig) -> MultiTaskNet:
        """Return a copy of the network, weights and all."""
        return copy.deepcopy(self._net)

    def super_module(self) -> MultiTaskNet:
        """Return a copy of the network, weights and all."""
        return copy.deepcopy(self._net)

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return each tensor as itself."""
        return prefix_views(shapes)

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,)."""
        return np.full(len(archs), LayerMacs(self._net, self.input, [])({}))


def finetuner(
    definition: Given, data: MultiTaskData, spec: TrainingSpec, seed: int, folder: Path | None, balancer: Mapping[str, Tensor]
) -> Trainer:
    """Return a training run that starts from the definition's network, or goes on where the one in `folder` stood.

    Args:
        definition: The network.
        data: All of it.
        spec: The recipe; one subnet a step.
        seed: Of the job.
        folder: Of this run; made if it is not there. None keeps nothing.
        balancer: State of the balancer that the supernet was trained with.
    """
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(definition, data, spec, seed, folder)
    if trainer.epoch == 0:
        # A run from nothing sets the bias of depth to the mean and looks at the data for the balancer; this one has both.
        trainer.supernet.shared.load_state_dict(definition.super_module().state_dict())
        if balancer:
            trainer.balancer.load_state_dict(balancer)
    return trainer


def epochs_of(trainer: Trainer) -> Iterator[EpochReport]:
    """Train what is left, and yield the report of every epoch, that of the last one of a former process first."""
    if trainer.last is not None:
        yield trainer.last
    while not trainer.done:
        yield trainer.run_epoch()


def relative_error(errors: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return the mean over tasks of the error relative to the reference's: below 1 is better than the reference."""
    return sum(errors[task] / max(reference[task], TINY) for task in reference) / len(reference)


def evenly(split: Split, count: int) -> Split:
    """Return `count` images of a split, or all where it has fewer, evenly spread over it."""
    count = min(count, len(split))
    return split.subset([i * len(split) // count for i in range(count)])


@torch.no_grad()
def mean_losses(net: nn.Module, split: Split, tasks: tuple[Task, ...]) -> dict[str, float]:
    """Return each task's loss over a split, labelled entries weighing alike, by a network in evaluation mode; 0 without any."""
    total = {task.name: 0.0 for task in tasks}
    count = {task.name: 0.0 for task in tasks}
    for x, targets in batches(split, tasks, BATCH_SIZE, None):
        outputs = net(x.contiguous(memory_format=torch.channels_last))
        for task in tasks:
            kind, target = task_kind(task.kind), targets[task.name]
            labelled = float(kind.labelled(target, task.outputs))
            total[task.name] += labelled * float(kind.loss(outputs[task.name], target))
            count[task.name] += labelled
    return {name: value / max(count[name], 1.0) for name, value in total.items()}


def save_refined(net: MultiTaskNet, arch: ArchConfig, path: Path) -> str:
    """Write a refined network's weights and batch-norm statistics, and return the first 16 digits of the file's SHA-256.

    Args:
        net: The network.
        arch: Its subnet's picks, with ``channels.GROUP`` where it was narrowed.
        path: Of the file.
    """
    return save_checkpoint(path, net.state_dict(), {"arch": json.loads(arch.to_json())})


def load_refined(path: Path, definition: SpaceDefinition) -> tuple[MultiTaskNet, ArchConfig]:
    """Return the network of a file that `save_refined` wrote, in evaluation mode on the CPU, and its picks.

    Args:
        path: The file.
        definition: The space that the network's subnet comes from.
    """
    tensors, facts = load_checkpoint(path)
    arch = ArchConfig(facts["arch"])
    net = narrowed(definition.build(inherited_arch(arch)), definition.input, channels_of(arch))
    net.load_state_dict(tensors)
    return net.eval(), arch
