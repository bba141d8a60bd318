"""One set of weights for every network of a space."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.core import ArchConfig
from nas.supernet.convolutions import SafeConvolutions
from nas.supernet.definition import Features, MultiTaskNet, Outputs, SpaceDefinition
from nas.supernet.view import View

PLAIN_NETWORKS = 512  # skeletons kept; each is a module without storage, about 100 kB


class _Pass(nn.Module):
    """A network whose forward gives features and predictions, so that `functional_call` can ask for both."""

    def __init__(self, net: MultiTaskNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Features, Outputs]:
        features = self.net.encode(x)
        return features, self.net.decode(features)


class Supernet(nn.Module):
    """Runs any architecture of a space on slices of shared weights. There is no active subnet to set or to forget.

    Args:
        definition: The space and its networks.
    """

    def __init__(self, definition: SpaceDefinition) -> None:
        super().__init__()
        self.definition = definition
        self.shared = definition.super_module()
        self._plain: OrderedDict[str, tuple[_Pass, dict[str, View]]] = OrderedDict()

    def forward(self, x: Tensor, arch: ArchConfig) -> Outputs:
        """Return every task's prediction by the subnet `arch`, for pixels of shape (n, channels, height, width)."""
        return self.features_and_outputs(x, arch)[1]

    def features_and_outputs(self, x: Tensor, arch: ArchConfig) -> tuple[Features, Outputs]:
        """Return the encoder's features and every task's prediction by the subnet `arch`."""
        plain, views = self._skeleton(arch)
        plain.train(self.training)
        shared = self._shared_tensors()
        tensors = {name: view.of(shared[view.name]) for name, view in views.items()}
        with SafeConvolutions():
            features, outputs = functional_call(plain, tensors, (x,))
        return features, outputs

    def extract(self, arch: ArchConfig) -> MultiTaskNet:
        """Return a standalone network with copies of the slices, on the supernet's device; it shares nothing with it.

        Batch-norm statistics are those the shared weights happen to hold: recalibrate before evaluating.
        """
        shared = self._shared_tensors()
        net = self.definition.build(arch).to(next(iter(shared.values())).device)
        own = net.state_dict()
        with torch.no_grad():
            for name, view in self.definition.views(arch, {name: tensor.shape for name, tensor in own.items()}).items():
                own[name].copy_(view.of(shared[view.name]))
        return net.train(self.training)

    def _shared_tensors(self) -> dict[str, Tensor]:
        return dict(self.shared.named_parameters()) | dict(self.shared.named_buffers())

    def _skeleton(self, arch: ArchConfig) -> tuple[_Pass, dict[str, View]]:
        found = self._plain.get(arch.key)
        if found is None:
            with torch.device("meta"):
                plain = _Pass(self.definition.build(arch))
            shapes = {name: tensor.shape for name, tensor in plain.net.state_dict().items()}
            views = {f"net.{name}": view for name, view in self.definition.views(arch, shapes).items()}
            found = self._plain[arch.key] = (plain, views)
            if len(self._plain) > PLAIN_NETWORKS:
                self._plain.popitem(last=False)
        return found
