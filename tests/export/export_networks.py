"""A small network for three kinds of task, with the operators that are hard to export with a dynamic batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import ArchConfig, Fingerprint, InputSpec, Task
from nas.export import CardFacts

INPUT = InputSpec(3, 24, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
TASKS = (
    Task("seg", "segmentation", 4, labels=("floor", "wall", "chair", "table")),
    Task("depth", "depth", 1),
    Task("room", "classification", 5),
)
FACTS = CardFacts(
    job="ab12cd34",
    space="slimmable",
    arch=ArchConfig({"encoder.0.width": 0.5, "seg.width": 1.0}),
    input=INPUT,
    tasks=TASKS,
    metrics={"miou.seg": 41.5, "rmse_m.depth": 0.9, "latency_ms@local": 2.5, "macs": 1.2e6},
    units={"miou": "%", "rmse_m": "m"},
    data="scenes",
    split="test",
    device="local",
    fingerprint=Fingerprint("Some CPU", 2, "1.23.0", "CPUExecutionProvider", 1),
    checkpoint="0123456789abcdef",
    seed=3,
)


class Net(nn.Module):
    """Strided convolutions, a decoder of bilinear upsampling by whole and by other factors, and pooling to one vector."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.lateral = nn.Conv2d(8, 16, 1)
        self.seg, self.depth, self.room = nn.Conv2d(16, 4, 3, 1, 1), nn.Conv2d(16, 1, 1), nn.Linear(16, 5)
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.6 - 0.2)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.add_(1.0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        fine = self.first((x - self.mean) / 0.25)
        coarse = self.second(fine)
        merged = self.lateral(fine) + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        odd = F.interpolate(F.adaptive_avg_pool2d(merged, (5, 7)), size=size, mode="bilinear", align_corners=False)
        return {
            "room": self.room(F.adaptive_avg_pool2d(coarse, 1).flatten(1)),
            "depth": F.softplus(self.depth(odd)),
            "seg": F.interpolate(self.seg(merged), size=size, mode="bilinear", align_corners=False),
        }


class Pooled(nn.Module):
    """Scores of an image from its mean colours."""

    def __init__(self, name: str = "room") -> None:
        super().__init__()
        self.name = name
        self.scores = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {self.name: self.scores(F.adaptive_avg_pool2d(x, 1).flatten(1))}


class DiffersInExport(nn.Module):
    """Computes something else while it is traced: a fault that only a comparison finds."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shift = 0.001 if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting() else 0.0
        return {"depth": x.mean(dim=1, keepdim=True) + shift}


class FreezesTheBatch(nn.Module):
    """Computes a constant from the traced batch, so that the file is right for that batch alone."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"depth": x.mean(dim=1, keepdim=True) * int(x.shape[0])}


class NotANumber(nn.Module):
    """Gives NaN in torch and in the file alike."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"depth": torch.log(x[:, :1] - 2.0)}


class CannotBeTraced(nn.Module):
    """Raises."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("a head is missing")
