"""An export is whole and right, or there is none."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_networks import FACTS, INPUT, TASKS, CannotBeTraced, DiffersInExport, FreezesTheBatch, Net, NotANumber, Pooled
from torch import nn

from nas.core import ExportError
from nas.export import Exported, card, check_file, export_model, max_differences, open_session, run_over, to_onnx
from nas.export.card import run_snippet

DEPTH_FACTS = replace(FACTS, tasks=TASKS[1:2])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    module = Net()  # in train mode, as training leaves it
    sample = torch.rand(5, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    done = export_model(
        module, FACTS, tmp_path_factory.mktemp("out"), "net-0.5", [sample], lambda path: {"latency_ms@local": 2.4}
    )
    assert module.training
    return done


def expected(pixels: torch.Tensor) -> Mapping[str, np.ndarray]:
    with torch.no_grad():
        return {name: value.numpy() for name, value in Net().eval()(pixels).items()}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_batch_size_gives_what_torch_gives(exported: Exported, batch: int) -> None:
    session = onnxruntime.InferenceSession(str(exported.onnx))
    pixels = torch.rand(batch, 3, 24, 32, generator=torch.Generator().manual_seed(batch))
    found = dict(zip(["seg", "depth", "room"], session.run(None, {"image": pixels.numpy()}), strict=True))
    for name, value in expected(pixels).items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_the_file_names_its_input_and_outputs_and_holds_its_metadata(exported: Exported) -> None:
    model = onnx.load(exported.onnx)
    (image,) = model.graph.input
    assert image.name == "image"
    assert [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim] == ["batch", 3, 24, 32]
    assert [output.name for output in model.graph.output] == ["seg", "depth", "room"]
    assert all(output.type.tensor_type.shape.dim[0].dim_param == "batch" for output in model.graph.output)
    assert {item.key: item.value for item in model.metadata_props}["arch_key"] == FACTS.arch.key


def test_the_file_does_not_tell_where_it_was_made(exported: Exported) -> None:
    content = exported.onnx.read_bytes()
    for trace in (str(Path.cwd()), sys.prefix, "site-packages", ".py", "export_networks"):
        assert trace.encode() not in content


def test_upsampling_by_whole_factors_has_constant_scales(exported: Exported) -> None:
    """Three of them: x2 and x2 by scales, 5x7 to 24x32 by sizes."""
    resizes = [node for node in onnx.load(exported.onnx).graph.node if node.op_type == "Resize"]
    assert sorted(len(node.input) for node in resizes) == [3, 3, 4]


def test_the_card_is_complete_and_true(exported: Exported) -> None:
    card = json.loads(exported.json.read_text())
    content = exported.onnx.read_bytes()
    assert card == exported.card
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["size_bytes"] == len(content)
    assert card["architecture"] == {"key": FACTS.arch.key, "choices": dict(FACTS.arch)}
    assert card["metrics"]["miou.seg"] == {"value": 41.5, "unit": "%"}
    assert card["metrics"]["rmse_m.depth"] == {"value": 0.9, "unit": "m"}
    assert card["metrics"]["latency_ms@local"] == {"value": 2.5, "unit": "ms"}
    assert card["checks"]["measured_on_this_file"] == {"latency_ms@local": {"value": 2.4, "unit": "ms"}}
    assert card["device"]["fingerprint"]["cpu"] == "Some CPU"
    assert card["data"] == {"name": "scenes", "split": "test"}
    assert card["seed"] == 3
    assert card["input"]["shape"] == ["batch", 3, 24, 32]
    assert card["outputs"][0]["labels"] == ["floor", "wall", "chair", "table"]
    assert card["versions"]["torch"] == torch.__version__
    assert set(card["checks"]["max_difference_onnxruntime_torch"]) == {"seg", "depth", "room"}
    assert max(card["checks"]["max_difference_onnxruntime_torch"].values()) < 1e-4
    markdown = exported.markdown.read_text()
    for part in (
        FACTS.arch.key,
        card["sha256"],
        "41.5",
        "Some CPU",
        "floor, wall, chair, table",
        "| latency_ms@local | 2.5 | ms | 2.4 |",
    ):
        assert part in markdown


def test_the_program_in_the_card_runs(exported: Exported) -> None:
    program = exported.markdown.read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=exported.onnx.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(1, 4, 24, 32), (1, 1, 24, 32), (1, 5)]"


def test_nothing_but_the_three_files_is_left(exported: Exported) -> None:
    assert sorted(path.name for path in exported.onnx.parent.iterdir()) == ["net-0.5.json", "net-0.5.md", "net-0.5.onnx"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (DiffersInExport(), "output depth is 0.001 apart"),
        (FreezesTheBatch(), "any batch: 1 gave|batch.*[0-9]"),
        (NotANumber(), "output depth is nan apart"),
        (CannotBeTraced(), "a head is missing"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_check_says_why_and_leaves_no_file(tmp_path: Path, module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        export_model(module, DEPTH_FACTS, tmp_path / "exports", "net")
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_file_that_does_not_keep_its_promise_does_not_replace_the_former_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def slow(path: Path) -> Mapping[str, float]:
        assert path.exists()
        raise ExportError("the latency is within 10 % of the stored one: 5 ms instead of 2")

    for ending in (".onnx", ".json", ".md"):
        (tmp_path / f"net{ending}").write_text("former")
    with pytest.raises(ExportError, match="5 ms instead of 2"):
        export_model(Net(), FACTS, tmp_path, "net", measure=slow)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.md", "net.onnx"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"former"}


def test_the_comparison_notices_other_weights(exported: Exported) -> None:
    other = Net()
    with torch.no_grad():
        other.room.bias[2] += 0.01
    with pytest.raises(ExportError, match="output room"):
        max_differences(exported.onnx, other, INPUT, TASKS)


@pytest.mark.parametrize("module", [Net(), Pooled()], ids=lambda module: type(module).__name__)
def test_either_exporter_gives_what_torch_gives_and_keeps_stdout_clean(
    tmp_path: Path, module: nn.Module, capfd: pytest.CaptureFixture[str]
) -> None:
    """`Net` has an operator that the former exporter lacks."""
    tasks = TASKS if isinstance(module, Net) else TASKS[2:]
    path = to_onnx(module, INPUT, tmp_path / "net.onnx", tasks)
    assert capfd.readouterr().out == ""
    pixels = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    found = open_session(path).run([task.name for task in tasks], {"image": pixels.numpy()})
    with torch.no_grad():
        wanted = module.eval()(pixels)
    for task, value in zip(tasks, found, strict=True):
        np.testing.assert_allclose(value, wanted[task.name].numpy(), atol=1e-5)


def test_a_split_is_run_batch_by_batch(exported: Exported) -> None:
    batches = [(torch.rand(n, 3, 24, 32, generator=torch.Generator().manual_seed(n)), f"targets {n}") for n in (4, 4, 1)]
    seen: list[tuple[torch.Tensor, str]] = []
    run_over(exported.onnx, batches, lambda predictions, targets: seen.append((predictions["room"], targets)))
    assert [targets for _, targets in seen] == ["targets 4", "targets 4", "targets 1"]
    for (pixels, _), (room, _) in zip(batches, seen, strict=True):
        np.testing.assert_allclose(room.numpy(), expected(pixels)["room"], atol=1e-5)


def test_a_package_without_metadata_fails_no_card(monkeypatch: pytest.MonkeyPatch, exported: Exported) -> None:
    monkeypatch.setattr(card, "PACKAGES", ("torch", "a-package-that-nobody-installed"))
    made = card.make_card(FACTS, exported.onnx, "net", {}, {})
    assert made["versions"].keys() == {"python", "torch"}


class InOrder(nn.Module):
    """Gives a network's predictions without the names that it has for them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.net(x)
        return found["seg"], found["depth"], found["room"]


# Names of the input, of operators, of values inside either exporter's files, of modules, and of the reserved ones.
TAKEN = [
    ("image", "image_", "mean"),
    ("relu", "@output:0", "resize_3_scales"),
    ("module.net.room.bias", "net.room/Gemm:0", "größe/a b"),
]


@pytest.mark.parametrize("names", TAKEN, ids=",".join)
def test_a_task_may_have_any_name_that_a_graph_uses_too(names: tuple[str, str, str], tmp_path: Path) -> None:
    tasks = [replace(task, name=name) for task, name in zip(TASKS, names, strict=True)]
    module = InOrder().eval()
    path = to_onnx(module, INPUT, tmp_path / "named.onnx", tasks)
    check_file(path, tasks)
    session = open_session(path)
    pixels = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    (image,) = session.get_inputs()
    assert image.name == ("image__" if "image" in names else "image")
    with torch.no_grad():
        expected = module(pixels)
    for value, found in zip(expected, session.run(list(names), {image.name: pixels.numpy()}), strict=True):
        np.testing.assert_allclose(found, value.numpy(), atol=1e-5)
    given = [tensor.name for tensor in onnx.load(path).graph.initializer]
    assert not any(name.startswith("@") for name in given)


def test_the_card_of_a_task_called_image_says_how_to_feed_the_file(tmp_path: Path) -> None:
    facts = replace(FACTS, tasks=(replace(TASKS[2], name="image"),))
    card = export_model(Pooled(name="image"), facts, tmp_path, "net").card
    assert card["input"]["name"] == "image_"
    done = subprocess.run([sys.executable, "-c", run_snippet(card)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(1, 5)]"


def test_a_card_of_what_was_not_measured_is_strict_json_and_says_so(tmp_path: Path) -> None:
    facts = replace(FACTS, tasks=TASKS[2:], metrics={"accuracy.room": math.nan, "macs": 10.0})
    made = export_model(Pooled(), facts, tmp_path, "net", measure=lambda path: {"accuracy.room": math.nan})
    text = made.json.read_text(encoding="utf-8")
    card = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert card["metrics"]["accuracy.room"]["value"] is None
    assert "| accuracy.room | not measured |" in made.markdown.read_text(encoding="utf-8")
