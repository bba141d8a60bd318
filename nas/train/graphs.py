"""Passes of a subnet on CUDA, captured once as a graph and replayed: small networks are bound by launches."""

from __future__ import annotations

import torch

from nas.core import ArchConfig
from nas.train.sandwich import Sandwich


class CapturedPasses:
    """Runs passes of a `Sandwich`, each architecture's from its own graph.

    Gradients are accumulated in place: they exist, and are zeroed rather than dropped, between steps.

    Args:
        sandwich: Loaded with a first batch, whose shape all later batches share.
    """

    def __init__(self, sandwich: Sandwich) -> None:
        self._sandwich = sandwich
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        for module in (sandwich.supernet, sandwich.balancer):
            for parameter in module.parameters():
                parameter.grad = torch.zeros_like(parameter)

    def run(self, arch: ArchConfig) -> None:
        """Add the gradients of one subnet."""
        graph = self._graphs.get(arch.key)
        if graph is None:
            self._capture(arch)
            return
        graph.replay()

    def _capture(self, arch: ArchConfig) -> None:
        """Run the pass once as it is, which also warms up cuDNN, then record it; recording adds nothing to the gradients."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._sandwich.run(arch)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._sandwich.run(arch)
        self._graphs[arch.key] = graph
