"""Backward passes of every block of every space, and of whole supernets; run as a script in a process that may die.

A fault of the library that computes them writes outside its memory: it shows as a signal, a hang or a damaged heap. Only a
process of its own, with an allocator that checks the heap, lives to show it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nas.core import InputSpec, Task
from nas.supernet import SafeConvolutions, Supernet
from search_spaces import make_space
from search_spaces.decoders import PooledDecoder, PyramidDecoder
from search_spaces.layers import BasicBlock, ConvNorm

CHANNELS = range(1, 18)  # one more than a vector register of 512 bits holds
IMAGES = 32  # a fault that overruns a workspace needs a few to reach its end
SIZE = (12, 19)
TASKS = (Task("mask", "segmentation", 3), Task("side", "classification", 2))


class Pointwise(nn.Module):
    """Strided convolutions of one pixel in the forms that users' modules have them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole = nn.Conv2d(channels, 16, 1, stride=2)
        self.depthwise = nn.Conv2d(channels, channels, 1, stride=(2, 1), groups=channels)
        self.padded = nn.Conv2d(channels, 8, 1, stride=3, padding=1)
        self.line = nn.Conv1d(channels, 8, 1, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.whole(x), self.depthwise(x), self.padded(x), self.line(x.flatten(2))]


def blocks(channels: int) -> Iterator[tuple[nn.Module, list[tuple[int, int]]]]:
    """Yield modules with the sizes of their inputs, each of `channels` channels."""
    one = [SIZE]
    yield ConvNorm(channels, 16, 3, 2), one
    yield ConvNorm(channels, 16, 1, 2), one
    yield BasicBlock(channels, 16, 2, project=True), one
    yield BasicBlock(channels, channels, 1, project=False), one
    yield nn.Conv2d(channels, channels, 3, 2, padding=1, groups=channels), one  # depth-wise
    yield Pointwise(channels), one
    yield Pointwise(channels), [(1, 1)]
    yield BasicBlock(channels, 16, 2, project=True), [(5, 1)]
    yield PyramidDecoder([channels] * 2, [SIZE, (6, 10)], 8, 3, SIZE), [SIZE, (6, 10)]
    yield PooledDecoder(channels, 8, 2), one


def supernets(channels: int) -> Iterator[tuple[Supernet, int]]:
    """Yield the supernets of every space on images of `channels` channels."""
    input = InputSpec(channels, *SIZE, mean=(0.0,) * channels, std=(1.0,) * channels)
    for name in ("slimmable", "branched"):
        options = {"channels": [8, 16], "decoder_channels": 8, "stem_stride": 1}
        yield Supernet(make_space(name, options, TASKS, input)), channels


def backward(outputs: list[Tensor]) -> None:
    torch.autograd.backward([output.float().square().mean() for output in outputs])


def main(bf16: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for channels in CHANNELS:
        for module, sizes in blocks(channels):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            inputs = [
                torch.randn(IMAGES, channels, *size).to(memory_format=torch.channels_last).requires_grad_() for size in sizes
            ]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16), SafeConvolutions():
                made = module(inputs if isinstance(module, PyramidDecoder | PooledDecoder) else inputs[0])
            backward(made if isinstance(made, list) else [made])
            for x in inputs:
                assert bool(torch.as_tensor(x.grad).isfinite().all()), (module, channels)
    for channels in (1, 3):
        for supernet, count in supernets(channels):
            supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = torch.rand(IMAGES, count, *SIZE).to(memory_format=torch.channels_last)
            for arch in (supernet.definition.space.largest(), supernet.definition.space.smallest()):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    outputs = supernet(x, arch)
                backward(list(outputs.values()))
    print("survived")


if __name__ == "__main__":
    main(bf16=sys.argv[1] == "bf16")
