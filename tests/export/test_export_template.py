"""One export per structure: what fills a graph computes what torch computes, and what does not fit is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nas.core import ExportError, InputSpec, Task
from nas.export import Exporter, exporter, open_session
from nas.export.structure import structure
from search_spaces import make_space

INPUT = InputSpec(3, 24, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
TASKS = (Task("seg", "segmentation", 4), Task("room", "classification", 5))
OPTIONS = {"channels": [8, 16, 24], "decoder_channels": 16, "widths": [0.5, 1.0], "depths": [1, 2]}
MAP = (Task("depth", "depth", 1),)


def fresh(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give a module weights and statistics that are all its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not name.startswith("normalize"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module.eval()


def outputs(model: onnx.ModelProto, pixels: Tensor) -> list[np.ndarray]:
    return open_session(model.SerializeToString()).run(None, {"image": pixels.numpy()})


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note every export by torch: whether it is the former exporter's."""
    seen: list[bool] = []
    real = exporter.exported_graph

    def noted(module: nn.Module, input: InputSpec, tasks: tuple[Task, ...], former: bool) -> onnx.ModelProto:
        seen.append(former)
        return real(module, input, tasks, former)

    monkeypatch.setattr(exporter, "exported_graph", noted)
    return seen


@pytest.mark.parametrize("name", ["slimmable", "branched"])
def test_subnets_of_one_structure_are_exported_once(name: str, exports: list[bool]) -> None:
    options = OPTIONS if name == "slimmable" else {k: v for k, v in OPTIONS.items() if k != "depths"}
    definition = make_space(name, options, TASKS, INPUT)
    made, rng, structures = Exporter(INPUT, TASKS), np.random.default_rng(0), set()
    pixels = torch.rand(3, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    for seed in range(6):
        module = fresh(definition.build(definition.space.sample(rng)), seed)
        structures.add(structure(module))
        model = made.model(module)
        with torch.no_grad():
            wanted = module(pixels)
        for task, found in zip(TASKS, outputs(model, pixels), strict=True):
            np.testing.assert_allclose(found, wanted[task.name].numpy(), atol=2e-5)
        assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert exports == [True] * len(structures)


def test_a_graph_is_kept_for_other_processes(tmp_path: Path, exports: list[bool]) -> None:
    definition = make_space("slimmable", OPTIONS, TASKS, INPUT)
    one, other = (fresh(definition.build(arch)) for arch in (definition.space.largest(), definition.space.largest()))
    first = Exporter(INPUT, TASKS, tmp_path).model(one)
    again = Exporter(INPUT, TASKS, tmp_path).model(other)
    assert exports == [True]
    assert first.SerializeToString() == again.SerializeToString()
    (kept,) = tmp_path.iterdir()
    assert sum(numpy_helper.to_array(tensor).size for tensor in onnx.load(kept).graph.initializer) < 100  # no weights


class Layers(nn.Module):
    """Whatever a user's network may hold around batch norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(3)  # behind no convolution
        self.grouped = nn.Conv2d(3, 3 * width, 3, padding=1, groups=3)
        self.norm = nn.BatchNorm2d(3 * width)
        self.shared = nn.Conv2d(3 * width, 3 * width, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(3 * width), nn.BatchNorm2d(3 * width, eps=0.1)])
        self.up = nn.ConvTranspose2d(3 * width, width, 2, stride=2)
        self.last = nn.BatchNorm2d(width)
        self.tokens = nn.Linear(width, 8, bias=False)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.grouped(self.before(x)))
        for norm in self.norms:
            x = torch.relu(norm(self.shared(x)))  # one convolution before two norms
        twice = self.shared(x)
        x = self.norms[0](twice) + twice  # read by a norm and by a sum
        x = self.last(self.up(x))[..., ::2, ::2]
        x = self.tokens(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return {"depth": self.head(x)}


@pytest.mark.parametrize("former", [True, False], ids=["former exporter", "current exporter"])
def test_what_stands_around_batch_norms_is_kept(former: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporter.exported_graph
    monkeypatch.setattr(exporter, "exported_graph", lambda module, input, tasks, _: real(module, input, tasks, former))
    made = Exporter(INPUT, MAP)
    for width in (2, 5):
        module = fresh(Layers(width), width)
        model = made.model(module)
        pixels = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            wanted = module(pixels)["depth"].numpy()
        np.testing.assert_allclose(outputs(model, pixels)[0], wanted, atol=2e-5)


class Scaled(nn.Module):
    """Divides by its own width, which the traced graph holds as a constant."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"depth": self.conv(x).sum(1, keepdim=True) / self.conv.out_channels}


def test_a_constant_that_depends_on_the_width_is_found(exports: list[bool]) -> None:
    """Both modules have one structure as far as can be seen; the second one's graph is not the first one's."""
    made = Exporter(INPUT, MAP)
    pixels = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    for width in (4, 8, 4):
        module = fresh(Scaled(width), width)
        with torch.no_grad():
            wanted = module(pixels)["depth"].numpy()
        np.testing.assert_allclose(outputs(made.model(module), pixels)[0], wanted, atol=1e-5)
    assert exports == [True, False, False]


@pytest.mark.parametrize(
    "edit",
    [
        lambda module: setattr(module.grouped, "padding", (2, 2)),
        lambda module: setattr(module.norms[1], "eps", 0.2),
        lambda module: setattr(module, "resolution", (3, 4)),
        lambda module: setattr(module, "head", nn.Sequential(module.head)),
    ],
)
def test_structure_is_all_but_sizes(edit: Callable[[Layers], None]) -> None:
    module = Layers(4)
    assert structure(module) == structure(fresh(Layers(4), 1))
    edit(module)
    assert structure(module) != structure(Layers(4))


def test_widths_alone_are_no_structure() -> None:
    definition = make_space("slimmable", {**OPTIONS, "resolutions": [1.0], "depths": [1]}, TASKS, INPUT)
    space = definition.space
    assert structure(definition.build(space.largest())) == structure(definition.build(space.smallest()))


def test_a_module_of_another_structure_is_refused() -> None:
    made = Exporter(INPUT, MAP)
    key = made._key(Scaled(4))
    made.model(fresh(Scaled(4)))
    with pytest.raises(ExportError, match=r"module\.conv\.weight is not in the module"):
        made._templates[key].fill(nn.Identity())
