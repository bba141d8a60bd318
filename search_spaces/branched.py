"""An encoder that is a tree: tasks share its first layers and part where it pays, every branch at a width of its own.

That each layer holds one partition of the tasks, which refines downwards, follows Bruggemann et al., Automated Search for
Resource-Efficient Branched Multi-Task Networks, BMVC 2020. A branch takes the weights of its first task; the network itself
(stages of ResNet's basic blocks, FPN-like decoders) and widths per branch are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from nas.core import ArchConfig, ArchError, Choice, FloatArray, InputSpec, SearchSpace, Task
from nas.core.branching import Partition, branching_choices, branching_picks, leaders
from nas.supernet import Features, MultiTaskNet, Outputs, Shapes, View, prefix_views
from search_spaces.decoders import Decoder, decoder_macs, make_decoder
from search_spaces.layers import ConvNorm, Normalize, make_divisible, residual_stage, strided
from search_spaces.options import check_channels, check_ratios, check_task_names, distinct


class BranchedNet(MultiTaskNet):
    """The plain network of one tree.

    Args:
        input: What the network takes.
        tasks: One decoder each.
        lead: First task of the branch that each task is in, shape (layers, tasks).
        stem: Channels of the stem, which all tasks share.
        widths: Channels of each layer's branches, by first task.
        blocks: Residual blocks of a branch in one layer.
        strides: Of the stem, then of each layer.
        decoders: Channels of each task's decoder.
    """

    def __init__(
        self,
        input: InputSpec,
        tasks: Sequence[Task],
        lead: Sequence[Sequence[int]],
        stem: int,
        widths: Sequence[Mapping[int, int]],
        blocks: int,
        strides: Sequence[int],
        decoders: Mapping[str, int],
    ) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        full = (input.height, input.width)
        self.lead = [[names[leader] for leader in row] for row in lead]  # per layer and task
        self.normalize = Normalize(input)
        self.stem = ConvNorm(input.channels, stem, 3, strides[0])
        self.stages = nn.ModuleList()
        size, sizes = strided(full, strides[0]), []
        for layer, branches in enumerate(widths):
            self.stages.append(
                nn.ModuleDict(
                    {
                        names[leader]: residual_stage(
                            widths[layer - 1][lead[layer - 1][leader]] if layer else stem, own, blocks, strides[layer + 1], True
                        )
                        for leader, own in branches.items()
                    }
                )
            )
            size = strided(size, strides[layer + 1])
            sizes.append(size)
        self.decoders = nn.ModuleDict()
        for index, task in enumerate(tasks):
            path = [branches[lead[layer][index]] for layer, branches in enumerate(widths)]
            self.decoders[task.name] = make_decoder(task, path, sizes, decoders[task.name], full)

    def encode(self, x: Tensor) -> Features:
        """Return one feature map per task and layer: the first task's from fine to coarse, then the next one's."""
        shared = self.stem(self.normalize(x))
        at = dict.fromkeys(self.decoders, shared)
        paths: dict[str, list[Tensor]] = {task: [] for task in self.decoders}
        for lead, stage in zip(self.lead, self.stages, strict=True):
            made = {leader: branch(at[leader]) for leader, branch in cast("nn.ModuleDict", stage).items()}
            for task, leader in zip(self.decoders, lead, strict=True):
                at[task] = made[leader]
                paths[task].append(made[leader])
        return [feature for path in paths.values() for feature in path]

    def decode(self, features: Features) -> Outputs:
        """Return every task's prediction."""
        layers = len(self.stages)
        return {
            task: decoder(features[index * layers : (index + 1) * layers])
            for index, (task, decoder) in enumerate(self.decoders.items())
        }

    def heads(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """Return each decoder's last layer."""
        return {task: cast("Decoder", decoder).head for task, decoder in self.decoders.items()}

    def relaxed(self, x: Tensor, weights: Tensor) -> Outputs:
        """Return every task's prediction when each task takes a mixture of all branches (Bruggemann et al., 2020).

        Args:
            x: Pixels in [0, 1], shape (n, channels, height, width).
            weights: Of each branch in what a task goes on with, shape (layers, tasks, branches). A branch of weight 0 is not
                computed.

        The network has to have a branch per task in every layer: it is the supernet.
        """
        shared = self.stem(self.normalize(x))
        at = dict.fromkeys(self.decoders, shared)
        paths: dict[str, list[Tensor]] = {task: [] for task in self.decoders}
        for row, stage in zip(weights, self.stages, strict=True):
            branches = list(cast("nn.ModuleDict", stage).values())
            made: dict[tuple[int, int], Tensor] = {}  # what a branch makes of an input: in the first layer all have the same
            mixed = {}
            for task, shares in zip(self.decoders, row, strict=True):
                parts = []
                for j in shares.nonzero().flatten().tolist():
                    taken = (id(at[task]), j)
                    if taken not in made:
                        made[taken] = branches[j](at[task])
                    parts.append(shares[j] * made[taken])
                mixed[task] = torch.stack(parts).sum(0)
                paths[task].append(mixed[task])
            at = mixed
        return self.decode([feature for path in paths.values() for feature in path])


class Branched:
    """The definition of the space.

    Choices: ``branch.TASK.layers`` and ``branch.TASK.with`` (`nas.core.branching`), ``stem.width``,
    ``encoder.LAYER.TASK.width`` for the branch whose first task is TASK, and ``decoder.TASK.width``.

    Args:
        tasks: Tasks of the job.
        input: Input of the job.
        widths: Ratios of the full channels, smallest first.
        channels: Full channels of each encoder layer; as many layers as numbers.
        blocks: Residual blocks of a branch in one layer.
        decoder_channels: Full channels of each decoder.
        stem_stride: Stride of the first convolution; every layer after the first halves the size again.

    Raises:
        ArchError: An option is empty, not ascending, not positive or too large, or torch cannot hold a task's name.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        input: InputSpec,
        *,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: int = 2,
        decoder_channels: int = 64,
        stem_stride: int = 2,
    ) -> None:
        check_ratios("widths", widths)
        check_channels(channels, decoder_channels, widths, stem_stride)
        check_task_names(tasks)
        if blocks != int(blocks) or blocks < 1:
            raise ArchError(f"blocks is a whole number from 1: got {blocks}; write for example 2")
        self.tasks, self.input = tuple(tasks), input
        self.channels, self.blocks, self.decoder_channels = tuple(channels), int(blocks), decoder_channels
        self.strides = (stem_stride, 1, *(2 for _ in channels[1:]))
        self.names = tuple(task.name for task in tasks)
        self.layers = len(self.channels)
        trees, aliases = branching_choices(self.names, self.layers)
        choices = [*trees, Choice("stem.width", distinct(widths, partial(self._width, 0)))]
        for layer in range(self.layers):
            options = distinct(widths, partial(self._width, layer))
            for index, task in enumerate(self.names):
                alone = (f"branch.{task}.layers", tuple(range(layer, -1, -1))) if index else None
                choices.append(Choice(f"encoder.{layer}.{task}.width", options, alone))
        choices += [Choice(f"decoder.{task}.width", distinct(widths, self._decoder_width)) for task in self.names]
        self.space = SearchSpace("branched", choices, aliases)
        # Not the largest: tasks that share nothing learn less from few images, and so does what learns from them.
        self.teacher = self.arch_of([(self.names,)] * self.layers)

    def build(self, arch: ArchConfig) -> BranchedNet:
        """Return the plain network of an architecture, with fresh weights."""
        lead = leaders([arch], self.names, self.layers)[0].tolist()
        return BranchedNet(
            self.input,
            self.tasks,
            lead,
            self._width(0, float(arch["stem.width"])),
            [
                {i: self._width(layer, float(arch[f"encoder.{layer}.{self.names[i]}.width"])) for i in sorted(set(row))}
                for layer, row in enumerate(lead)
            ],
            self.blocks,
            self.strides,
            {task: self._decoder_width(float(arch[f"decoder.{task}.width"])) for task in self.names},
        )

    def super_module(self) -> BranchedNet:
        """Return the largest network, which has a branch per task in every layer and owns the shared weights."""
        return self.build(self.space.largest())

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return the leading channels of every layer of the branch that its first task has in the supernet."""
        return prefix_views(shapes)

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,): convolutions and linear layers, as torch counts them."""
        if not archs:
            return np.zeros(0)
        lead = leaders(archs, self.names, self.layers)  # (n, layers, tasks)
        rows = np.arange(len(archs))[:, None]
        stem: FloatArray = np.array([self._width(0, float(arch["stem.width"])) for arch in archs], dtype=np.float64)
        areas = np.array(self._areas(), dtype=np.float64)
        total = 9.0 * self.input.channels * stem * areas[0]
        before = np.repeat(stem[:, None], len(self.tasks), axis=1)  # channels on each task's path
        levels = []
        for layer, area in enumerate(areas[1:]):
            channels = np.zeros((len(archs), len(self.tasks)))  # of the branch that each task leads, 0 where it follows
            for i, leader in enumerate(self.names):
                name = f"encoder.{layer}.{leader}.width"
                channels[:, i] = [self._width(layer, float(arch[name])) if name in arch else 0 for arch in archs]
            total += (self._stage_macs(before, channels) * area).sum(axis=1)
            before = channels[rows, lead[:, layer]]
            levels.append(before)
        widths = [[self._decoder_width(float(arch[f"decoder.{task}.width"])) for arch in archs] for task in self.names]
        for i, task in enumerate(self.tasks):
            own: FloatArray = np.array(widths[i], dtype=np.float64)
            total += decoder_macs(task, [level[:, i] for level in levels], list(areas[1:]), own)
        return np.asarray(total, dtype=float)

    def layer_macs(self) -> FloatArray:
        """Return the multiply-accumulates of one full-width branch in each layer, shape (layers,)."""
        full = np.array([self._width(layer, 1.0) for layer in range(self.layers)], dtype=float)
        return np.asarray(self._stage_macs(np.array([full[0], *full[:-1]]), full) * np.array(self._areas()[1:]))

    def relaxed(self, module: nn.Module, x: Tensor, weights: Tensor) -> Outputs:
        """Return every task's prediction by the super module when each task takes a mixture of branches in every layer."""
        return cast("BranchedNet", module).relaxed(x, weights)

    def arch_of(self, partitions: Sequence[Partition]) -> ArchConfig:
        """Return a tree at full widths.

        Args:
            partitions: Of the tasks, one per layer.

        Raises:
            ArchError: A task is in no branch of a layer, or there are more or fewer partitions than layers.
        """
        if len(partitions) != self.layers:
            raise ArchError(f"a tree has one partition per layer: got {len(partitions)} for {self.layers} layers")
        widest = {choice.name: choice.options[-1] for choice in self.space.choices}
        picks = {name: option for name, option in widest.items() if not name.startswith("branch.")}
        return self.space.arch(picks | branching_picks(partitions, self.names))

    def _areas(self) -> list[int]:
        """Return the pixels that the stem, then each layer, gives."""
        size, areas = (self.input.height, self.input.width), []
        for stride in self.strides:
            size = strided(size, stride)
            areas.append(size[0] * size[1])
        return areas

    def _stage_macs(self, before: FloatArray, own: FloatArray) -> FloatArray:
        """Return multiply-accumulates per output pixel of a branch: its 3×3 convolutions and the 1×1 shortcut."""
        return np.asarray(9.0 * own * (before + (2 * self.blocks - 1) * own) + before * own)

    def _width(self, layer: int, ratio: float) -> int:
        return make_divisible(self.channels[layer] * ratio)

    def _decoder_width(self, ratio: float) -> int:
        return make_divisible(self.decoder_channels * ratio)
