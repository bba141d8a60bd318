"""Channels that can only go together, found from a network's own computation.

A channel that leaves a convolution also leaves its batch norm, the other convolutions that a shortcut adds it to, and the
inputs of whatever reads it. Which those are is found by torch-pruning (Fang et al., DepGraph: Towards Any Structural Pruning,
CVPR 2023) from one pass through the network, whatever it is made of.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas.core import InputSpec, NasError, nearest
from nas.supernet import MultiTaskNet

WEIGHTED = (nn.Conv2d, nn.Linear)
_BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that several layers put out and only lose together.

    Attributes:
        name: Path of the first of the convolutions and linear layers among them.
        channels: How many there are.
        layers: Path of each convolution and linear layer to its own number of each channel.
        norms: The same of batch norms.
        readers: Path of each convolution and linear layer that takes them in to the inputs that a channel is there.
    """

    name: str
    channels: int
    layers: Mapping[str, tuple[int, ...]]
    norms: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, int]

    def saliency(self, net: nn.Module) -> Tensor:
        """Return what each channel is worth, shape (channels,), float64: the sum over layers of its filter's mean |weight|."""
        worth = torch.zeros(self.channels, dtype=torch.float64)
        for path, own in self.layers.items():
            weight = net.get_parameter(f"{path}.weight").detach().double().cpu()
            worth += weight.abs().flatten(1).mean(dim=1)[list(own)]
        return worth


def channel_groups(net: MultiTaskNet, input: InputSpec) -> list[ChannelGroup]:
    """Return the groups of a network in the order of its layers.

    Left out are the tasks' last layers, whose channels are the predictions, and channels that pass through a layer other than a
    convolution, a linear layer or a batch norm with weights: such a layer may make something of a channel of zeros.
    """
    graph = _graph(net, input)
    paths = {module: path for path, module in net.named_modules()}
    places = {path: place for place, path in enumerate(paths.values())}
    heads = set(net.heads().values())
    found: list[ChannelGroup] = []
    for group in graph.get_all_groups(root_module_types=list(WEIGHTED)):
        members = [
            (item.dep.target.module, _numbers(item))
            for item in group.items
            if graph.is_out_channel_pruning_fn(item.dep.handler) and item.dep.target.module in paths
        ]
        channels = len(group[0].idxs)
        if any(not _plain(module) or module in heads or len(own) != channels for module, own in members):
            continue
        layers = {paths[module]: own for module, own in members if isinstance(module, WEIGHTED)}
        norms = {paths[module]: own for module, own in members if isinstance(module, _BatchNorm)}
        readers = {
            paths[item.dep.target.module]: len(item.idxs) // channels
            for item in group.items
            if graph.is_in_channel_pruning_fn(item.dep.handler) and isinstance(item.dep.target.module, WEIGHTED)
        }
        first = min(layers, key=lambda path: places[path])
        if layers[first] == tuple(range(channels)):
            found.append(ChannelGroup(first, channels, layers, norms, readers))
    return sorted(found, key=lambda group: places[group.name])


def removed(net: MultiTaskNet, input: InputSpec, channels: Mapping[str, Sequence[int]]) -> MultiTaskNet:
    """Return a smaller copy of a network, in the same mode and with the same weights but for the channels that are gone.

    Args:
        net: Stays as it is.
        input: What it takes.
        channels: Name of a group to the numbers of the channels to remove; some of each group stay.

    Raises:
        NasError: The network has no such group, or all of its channels would go.
    """
    smaller = copy.deepcopy(net)
    if not any(channels.values()):
        return smaller
    known = {group.name: group for group in channel_groups(smaller, input)}
    graph = _graph(smaller, input)
    for name, gone in channels.items():
        if name not in known:
            raise NasError(f"channels are removed from groups of the network: {name!r} is none; {nearest(name, known)}")
        if len(set(gone)) >= known[name].channels:
            raise NasError(f"a layer keeps at least one channel: all {known[name].channels} of {name} were to go; keep some")
        layer = smaller.get_submodule(name)
        out = graph.get_pruner_of_module(layer).prune_out_channels
        graph.get_pruning_group(layer, out, sorted(set(gone))).prune(record_history=False)
    return smaller


def narrowed(net: MultiTaskNet, input: InputSpec, channels: Mapping[str, int]) -> MultiTaskNet:
    """Return a copy of a network with so many channels of each group named, whatever their weights: to load weights into.

    Raises:
        NasError: The network has no such group, or not so many channels.
    """
    full = {group.name: group.channels for group in channel_groups(net, input)} if channels else {}
    for name, kept in channels.items():
        if not 1 <= kept <= full.get(name, kept):
            raise NasError(f"a group keeps 1 to all of its channels: {name} has {full[name]}, and {kept} were to be kept")
    return removed(net, input, {name: range(kept, full.get(name, kept + 1)) for name, kept in channels.items()})


class LayerMacs:
    """Counts the multiply-accumulates of a network without channels, from one pass through the whole one.

    Args:
        net: In evaluation mode.
        input: What it takes.
        groups: Of the network.
    """

    def __init__(self, net: nn.Module, input: InputSpec, groups: Sequence[ChannelGroup]) -> None:
        self._groups = {group.name: group for group in groups}
        self._whole: dict[str, float] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # outputs, inputs
        hooks = []
        for path, layer in net.named_modules():
            if isinstance(layer, WEIGHTED):
                self._sizes[path] = (layer.weight.shape[0], layer.weight.shape[1])
                hooks.append(layer.register_forward_hook(partial(self._count, path)))
        try:
            with torch.no_grad():
                net(_pixels(net, input))
        finally:
            for hook in hooks:
                hook.remove()

    def __call__(self, gone: Mapping[str, int]) -> float:
        """Return the multiply-accumulates of one input without so many channels of each group named."""
        outputs, inputs = (dict.fromkeys(self._sizes, 0) for _ in range(2))
        for name, count in gone.items():
            for path in self._groups[name].layers:
                outputs[path] += count
            for path, each in self._groups[name].readers.items():
                inputs[path] += count * each
        return sum(
            whole * (1 - outputs[path] / self._sizes[path][0]) * (1 - inputs[path] / self._sizes[path][1])
            for path, whole in self._whole.items()
        )

    def _count(self, path: str, layer: nn.Module, inputs: object, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        self._whole[path] = self._whole.get(path, 0.0) + output.numel() / len(output) * weight.numel() / weight.shape[0]


class Masks:
    """Channels of a network set to zero, which computes what the network without them would; it can be taken back.

    Args:
        net: Is changed in place.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._whole = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}

    @torch.no_grad()
    def set(self, group: ChannelGroup, gone: Sequence[int]) -> None:
        """Make the channels `gone` of a group, and no others of it, zero."""
        for path, own in (*group.layers.items(), *group.norms.items()):
            layer = self._net.get_submodule(path)
            zeros = [own[channel] for channel in gone]
            for kind in ("weight", "bias"):
                tensor = getattr(layer, kind)
                if tensor is not None:
                    tensor.copy_(self._whole[f"{path}.{kind}"])
                    tensor[zeros] = 0


def _pixels(net: nn.Module, input: InputSpec) -> Tensor:
    return torch.zeros(1, input.channels, input.height, input.width, device=next(net.parameters()).device)


def _plain(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm):
        return bool(module.affine)
    return isinstance(module, WEIGHTED) and getattr(module, "groups", 1) == 1


def _numbers(item: Any) -> tuple[int, ...]:
    """Return a layer's own number of each channel of the group; nothing where they do not map one to one."""
    own, root = item.idxs, item.root_idxs
    if None in root or sorted(root) != list(range(len(own))):
        return ()
    return tuple(number for _, number in sorted(zip(root, own, strict=True)))


def _graph(net: MultiTaskNet, input: InputSpec) -> Any:
    """Return torch-pruning's graph of a network, from one pass in evaluation mode."""
    import torch_pruning

    training, wanted = net.training, {p: p.requires_grad for p in net.parameters()}
    net.eval().requires_grad_(True)  # the pass is followed through autograd
    try:
        with torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(net, _pixels(net, input), verbose=False)
    finally:
        net.train(training)
        for p, before in wanted.items():
            p.requires_grad_(before)
