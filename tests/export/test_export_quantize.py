"""A policy is what the file computes: which layers run on integers, how exactly, how small, and by either exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from nas.core import ExportError, InputSpec, Precision, Task
from nas.export import open_session, quantize, to_onnx, weight_bytes
from nas.export.exporter import rename
from nas.export.products import pack_int4
from nas.export.template import Template
from nas.export.traced import RESERVED_INPUT, exported_graph, input_name, output_name
from nas.supernet import blocks
from search_spaces import make_space

INPUT = InputSpec(3, 24, 32, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
TASKS = (Task("seg", "segmentation", 5), Task("room", "classification", 4))
IMAGES: NDArray[np.float32] = np.random.default_rng(0).random((6, 3, 24, 32), dtype=np.float32)
FEW_BITS = 0.05  # of the spread of an output: what eight bits in every layer may add to it


class Tokens(nn.Module):
    """Matrix products only, in two blocks, one of them with a bias and a rectifier."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.mix = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 40, bias=False))
        self.head = nn.Linear(40, 7)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.2, generator=generator)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"room": self.head(self.mix(x.flatten(1, 2))).mean(1)}


def filled(module: nn.Module, tasks: Sequence[Task], former: bool) -> onnx.ModelProto:
    """Return a module's model by one of torch's exporters."""
    model = Template(exported_graph(module, INPUT, tasks, former)).fill(module)
    given = {RESERVED_INPUT: input_name(tasks)} | {output_name(index): task.name for index, task in enumerate(tasks)}
    rename(model, given)
    return model


@pytest.fixture(scope="module")
def files() -> dict[str, onnx.ModelProto]:
    """Return the same network by both exporters."""
    torch.manual_seed(0)
    options = {"channels": (16, 24), "decoder_channels": 16, "stem_stride": 1, "depths": (1,)}
    definition = make_space("slimmable", options, TASKS, INPUT)
    module = definition.build(definition.space.largest())
    with torch.no_grad():
        for _ in range(20):  # statistics of batch norm that are the network's own
            module(torch.from_numpy(IMAGES))
    return {name: filled(module.eval(), TASKS, former=name == "traced") for name in ("traced", "exported")}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load(to_onnx(Tokens().eval(), INPUT, tmp_path_factory.mktemp("tokens") / "tokens.onnx", [TASKS[1]]))


def run(model: onnx.ModelProto, images: NDArray[np.float32] = IMAGES, optimise: bool = True) -> list[NDArray[np.float32]]:
    """Return each output for all images, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.concatenate(found) for found in zip(*(session.run(None, {"image": x[None]}) for x in images), strict=True)]


def kernels(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Return the operators that ONNX Runtime makes of a model for one image at a time."""
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 1)
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def everywhere(precision: Precision) -> dict[str, Precision]:
    return dict.fromkeys(("stem", "stages.0", "stages.1", "decoders.seg", "decoders.room"), precision)


def test_both_exporters_name_nodes_after_modules(files: dict[str, onnx.ModelProto]) -> None:
    for model in files.values():
        owners = {node.name.rpartition("/")[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
        names = [block.name for block in blocks(make_space("slimmable", {}, TASKS, INPUT).super_module())]
        assert {name for name in names if any(owner.startswith(f"{name}.") for owner in owners)} == {
            "stem",
            "stages.0",
            "stages.1",
            "decoders.seg",
            "decoders.room",
        }
        assert len({node.name for node in model.graph.node}) == len(model.graph.node)


@pytest.mark.parametrize("policy", [{}, everywhere("fp32")])
def test_a_policy_of_floats_changes_nothing(files: dict[str, onnx.ModelProto], policy: dict[str, Precision]) -> None:
    assert quantize(files["traced"], policy, IMAGES) is files["traced"]


@pytest.mark.parametrize(
    "policy", [everywhere("int8"), {"stages.1": "int8", "decoders.room": "int8"}, {"stem": "int8", "decoders.seg": "int8"}]
)
def test_the_exporters_give_one_network(files: dict[str, onnx.ModelProto], policy: dict[str, Precision]) -> None:
    before = {name: model.SerializeToString() for name, model in files.items()}
    mixed = {name: quantize(model, policy, IMAGES) for name, model in files.items()}
    for model in mixed.values():
        onnx.checker.check_model(model, full_check=True)
    assert before == {name: model.SerializeToString() for name, model in files.items()}
    for float_, traced, exported in zip(run(files["traced"]), run(mixed["traced"]), run(mixed["exported"]), strict=True):
        spread = float_.std()
        assert np.abs(traced - exported).mean() < 0.1 * FEW_BITS * spread
        assert 0 < np.abs(traced - float_).mean() < FEW_BITS * spread


def test_a_dynamic_batch_stays_dynamic(files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    onnx.save(quantize(files["exported"], everywhere("int8"), IMAGES), tmp_path / "mixed.onnx")
    together = open_session(tmp_path / "mixed.onnx").run(None, {"image": IMAGES})
    fixed = open_session(tmp_path / "mixed.onnx", batch=1).run(None, {"image": IMAGES[:1]})
    for all_, one in zip(together, fixed, strict=True):
        np.testing.assert_allclose(all_[:1], one, atol=1e-5)


def test_a_wholly_quantized_network_has_no_floats_between_its_layers(files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    found = kernels(quantize(files["traced"], everywhere("int8"), IMAGES), tmp_path)
    floats = kernels(files["traced"], tmp_path)
    assert found["QLinearConv"] == sum(node.op_type == "Conv" for node in files["traced"].graph.node) - 1  # seg's last one
    assert found["QGemm"] == 1
    assert found["QLinearAdd"] == sum(node.op_type == "Add" for node in files["traced"].graph.node) > 0
    assert found["Conv"] == 1
    assert found["FusedConv"] + found["Add"] + found["Relu"] == 0
    assert found["QuantizeLinear"] <= 2  # the normalised image, the pooled features
    assert found["DequantizeLinear"] <= 2  # the features before the last convolution and before they are pooled
    assert floats["QLinearConv"] == 0


def test_neighbours_share_their_border(files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    """Between two blocks of integers nothing turns to floats, nor does the sum that ends the first."""
    alone = [kernels(quantize(files["traced"], {block: "int8"}, IMAGES), tmp_path) for block in ("stages.0", "stages.1")]
    both = kernels(quantize(files["traced"], {"stages.0": "int8", "stages.1": "int8"}, IMAGES), tmp_path)
    assert both["QLinearConv"] == sum(found["QLinearConv"] for found in alone)
    assert both["QLinearAdd"] == sum(found["QLinearAdd"] for found in alone) + 1
    assert both["QuantizeLinear"] == sum(found["QuantizeLinear"] for found in alone) - 1


def test_integer_kernels_compute_what_the_file_says(files: dict[str, onnx.ModelProto]) -> None:
    """Against the same file with every rounding done in floats: sums of 16 bits would be clipped by larger weights."""
    mixed = quantize(files["traced"], everywhere("int8"), IMAGES)
    for floats, integers, plain in zip(run(files["traced"]), run(mixed), run(mixed, optimise=False), strict=True):
        assert np.abs(integers - plain).mean() < 0.1 * FEW_BITS * floats.std()


def test_the_largest_products_are_not_clipped(tmp_path: Path) -> None:
    """All weights at their most and all activations at theirs: the sum is exact on every processor."""
    conv = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1))
    for parameter in conv.parameters():
        nn.init.constant_(parameter, 0.1)
    model = onnx.load(to_onnx(conv.eval(), INPUT, tmp_path / "net.onnx", [Task("depth", "depth", 16)]))
    ones = np.ones((1, 3, 24, 32), dtype=np.float32)
    (expected,), (found,) = run(model, ones), run(quantize(model, {"0": "int8", "1": "int8"}, ones), ones)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_weights_are_the_nearest_eight_bit_values_by_channel(files: dict[str, onnx.ModelProto]) -> None:
    model = files["traced"]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    mixed = {t.name: numpy_helper.to_array(t) for t in quantize(model, everywhere("int8"), IMAGES).graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or "seg.head" in node.name:
            continue
        integers, scales = mixed[f"{node.name}.weight.int"], mixed[f"{node.name}.weight.scale"]
        assert integers.dtype == np.int8
        assert np.abs(integers.astype(int)).max() == 64
        steps = scales.reshape(-1, *[1] * (integers.ndim - 1))
        assert (np.abs(integers * steps - stored[node.input[1]]) <= 0.5001 * steps).all()
        assert stored[node.input[1]].shape[0] == len(scales)


def test_a_file_of_integers_is_a_quarter_as_large(files: dict[str, onnx.ModelProto]) -> None:
    floats = sum(numpy_helper.to_array(t).nbytes for t in files["traced"].graph.initializer)
    assert weight_bytes(files["traced"]) == floats
    assert 0.25 * floats < weight_bytes(quantize(files["traced"], everywhere("int8"), IMAGES)) < 0.36 * floats
    assert weight_bytes(quantize(files["traced"], {"stem": "int8"}, IMAGES)) > 0.9 * floats


def test_dynamic_products_round_as_each_input_asks(tokens: onnx.ModelProto, tmp_path: Path) -> None:
    (found,) = run(quantize(tokens, {"head": "int8-dynamic"}, IMAGES))
    network = Tokens().eval()
    with torch.no_grad():
        x = network.mix(torch.from_numpy(IMAGES).flatten(1, 2)).numpy()  # (n, tokens, 40)
    weight, bias = network.head.weight.detach().numpy(), network.head.bias.detach().numpy()  # (7, 40), (7,)
    step = np.abs(weight).max(axis=1, keepdims=True) / 64
    weight = np.rint(weight / step) * step
    expected = []
    for row in x:
        low, high = min(row.min(), 0.0), max(row.max(), 0.0)
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        rounded = (np.clip(np.rint(row / scale) + zero, 0, 255) - zero) * scale
        expected.append((rounded @ weight.T + bias).mean(axis=0))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    kinds = kernels(quantize(tokens, {"mix": "int8-dynamic"}, IMAGES), tmp_path)
    assert kinds["DynamicQuantizeMatMul"] + kinds["MatMulIntegerToFloat"] == 2  # one kernel each


def test_products_and_their_biases_are_one_integer_node_each(tokens: onnx.ModelProto, tmp_path: Path) -> None:
    found = kernels(quantize(tokens, {"mix": "int8", "head": "int8"}, IMAGES), tmp_path)
    assert (found["QGemm"], found["QLinearMatMul"]) == (2, 1)  # with a bias and without
    assert found["Gemm"] + found["MatMul"] + found["Add"] + found["DequantizeLinear"] == 0


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int4"])
def test_matrix_products_stay_near_the_floats(tokens: onnx.ModelProto, precision: Precision) -> None:
    mixed = quantize(tokens, {"mix": precision, "head": precision}, IMAGES)
    onnx.checker.check_model(mixed)
    (expected,), (found,) = run(tokens), run(mixed)
    assert 0 < np.abs(found - expected).mean() < (0.2 if precision == "int4" else 0.03) * expected.std()
    assert weight_bytes(mixed) < (0.25 if precision == "int4" else 0.4) * weight_bytes(tokens)


@pytest.mark.parametrize("k", [32, 40, 96])
def test_four_bit_weights_are_what_the_kernel_reads(k: int) -> None:
    """The identity through ONNX Runtime's kernel gives back the rounded weights, each within half a step of its group."""
    weight = np.random.default_rng(k).standard_normal((k, 5)).astype(np.float32)
    weight[:, 4] = 0
    packed, scales = pack_int4(weight)
    value = helper.make_tensor_value_info
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=k, N=5, bits=4, block_size=32)
    graph = helper.make_graph(
        [node],
        "one",
        [value("x", 1, [k, k])],
        [value("y", 1, [k, 5])],
        [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(scales, "s")],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    session = onnxruntime.InferenceSession(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())
    (found,) = session.run(None, {"x": np.eye(k, dtype=np.float32)})
    steps = np.abs(scales).reshape(5, -1).T.repeat(32, axis=0)[:k]  # (k, 5)
    # The value opposite to a group's largest is clipped by at most a step.
    assert (np.abs(found - weight) <= np.where(np.abs(found / steps).round(2) == 7, 1.01, 0.51) * steps + 1e-3).all()


def test_a_network_that_overflows_is_refused_and_a_dead_one_is_not(files: dict[str, onnx.ModelProto]) -> None:
    with pytest.raises(ExportError, match="not finite on some calibration image"):
        quantize(files["traced"], {"stages.0": "int8"}, IMAGES * np.float32("inf"))
    dead = onnx.ModelProto()
    dead.CopyFrom(files["traced"])
    tensors = {tensor.name: tensor for tensor in dead.graph.initializer}
    for node in dead.graph.node:
        if node.name.startswith("stages.0.0.conv1"):
            for value in node.input[1:]:
                tensors[value].CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensors[value]), value))
    for floats, found in zip(run(dead), run(quantize(dead, everywhere("int8"), IMAGES)), strict=True):
        assert np.abs(found - floats).mean() < FEW_BITS * floats.std()


def test_errors_name_the_nearest_valid_value(files: dict[str, onnx.ModelProto]) -> None:
    with pytest.raises(ExportError, match=r"'stage\.1' has none here; did you mean 'stages\.1'"):
        quantize(files["traced"], {"stage.1": "int8"}, IMAGES)
    with pytest.raises(ExportError, match="'int6'; did you mean 'int"):
        quantize(files["traced"], {"stem": "int6"}, IMAGES)  # type: ignore[dict-item]
    with pytest.raises(ExportError, match="int8-dynamic is for matrix products: block 'stem' has only convolutions"):
        quantize(files["traced"], {"stem": "int8-dynamic"}, IMAGES)
    with pytest.raises(ExportError, match="at least one image"):
        quantize(files["traced"], {"stem": "int8"}, IMAGES[:0])
