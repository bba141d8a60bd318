"""The operators that ONNX Runtime runs: what it fused, their shapes, names that last, and times that add up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.devices import load_device
from hw_profiles.node_times import node_times
from hw_profiles.operators import operators
from nas.core import DeviceError
from nas.core.operator import Operator, OperatorTime

LOCAL = load_device("local")


def chain(layers: int, integer: bool = False) -> bytes:
    """A stem and `layers` convolutions of 16 channels on 8 x 12 pixels; the last one, on request, in eight bits."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name: str, value: object) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def conv(source: str, layer: str, inputs: int) -> str:
        weight = constant(f"{layer}.weight", rng.standard_normal((16, inputs, 3, 3)).astype(np.float32))
        attributes = {"kernel_shape": [3, 3], "pads": [1] * 4}
        nodes.append(helper.make_node("Conv", [source, weight], [f"{layer}.out"], name=f"/{layer}/Conv", **attributes))
        nodes.append(helper.make_node("Relu", [f"{layer}.out"], [layer], name=f"/{layer}/Relu"))
        return layer

    value = conv("image", "stem", 3)
    for index in range(layers):
        value = conv(value, f"block.{index}", 16)
    if integer:
        scale, zero = constant("scale", np.float32(0.1)), constant("zero", np.uint8(0))
        weight = constant("last.int", rng.integers(-60, 60, (8, 16, 1, 1)).astype(np.int8))
        steps, none = constant("steps", np.full(8, 0.01, np.float32)), constant("none", np.zeros(8, np.int8))
        nodes += [
            helper.make_node("QuantizeLinear", [value, scale, zero], ["q"], name="/last/q"),
            helper.make_node("DequantizeLinear", ["q", scale, zero], ["dq"], name="/last/dq"),
            helper.make_node("DequantizeLinear", [weight, steps, none], ["w"], name="/last/w", axis=0),
            helper.make_node("Conv", ["dq", "w"], ["c"], name="/last/Conv"),
            helper.make_node("QuantizeLinear", ["c", scale, zero], ["cq"], name="/last/cq"),
            helper.make_node("DequantizeLinear", ["cq", scale, zero], ["last"], name="/last/cdq"),
        ]
        value = "last"
    nodes.append(helper.make_node("Identity", [value], ["output"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 12])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 8 if integer else 16, 8, 12])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def of_kind(graph: tuple[Operator, ...], kind: str) -> list[Operator]:
    return [op for op in graph if op.kind == kind]


def test_a_rectifier_is_part_of_its_convolution() -> None:
    graph = operators(chain(2), LOCAL)
    convolutions = of_kind(graph, "Conv")
    assert len(convolutions) == 3
    assert not of_kind(graph, "Relu")
    assert convolutions[0].input == (1, 3, 8, 12)
    assert convolutions[1].other == (16, 16, 3, 3)
    assert convolutions[1].flops == 2 * 16 * 8 * 12 * 16 * 9
    assert convolutions[1].bytes == 4 * (2 * 16 * 8 * 12 + 16 * 16 * 9)


def test_a_layer_keeps_its_name_in_a_deeper_network() -> None:
    short, long = (operators(chain(layers), LOCAL) for layers in (1, 3))
    names = [{op.name for op in of_kind(graph, "Conv")} for graph in (short, long)]
    assert names[0] < names[1]
    assert len(names[1]) == 4
    assert len({op.name for op in long}) == len(long)
    assert not any("token" in op.name for op in long)


def test_an_eight_bit_convolution_has_its_weight_and_its_borders() -> None:
    graph = operators(chain(1, integer=True), LOCAL)
    [convolution] = of_kind(graph, "QLinearConv")
    assert convolution.dtype == "uint8"
    assert convolution.other == (8, 16, 1, 1)  # the kernel has packed it; the profiler no longer tells
    assert convolution.flops == 2 * 8 * 8 * 12 * 16
    [into] = of_kind(graph, "QuantizeLinear")
    assert math.prod(into.output) == 16 * 8 * 12
    assert into.name == "QuantizeLinear from block.0"
    assert [math.prod(op.output) for op in of_kind(graph, "DequantizeLinear")] == [8 * 8 * 12]


def test_times_add_up_to_what_was_measured() -> None:
    timed = node_times(chain(2), LOCAL, total_ms=3.0, runs=5)
    assert all(isinstance(row, OperatorTime) and row.ms > 0 for row in timed)
    assert sum(row.ms for row in timed) == pytest.approx(3.0)
    assert {row.operator for row in timed} == set(operators(chain(2), LOCAL))


def test_a_layer_with_more_work_takes_more_of_the_time() -> None:
    timed = {row.operator.input[1]: row.ms for row in node_times(chain(1), LOCAL, runs=20) if row.operator.kind == "Conv"}
    assert timed[16] > timed[3]


def test_what_is_no_model_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DeviceError, match="export it again"):
        operators(b"nothing", LOCAL)


@pytest.mark.parametrize(
    ("operator", "flops", "size"),
    [
        (Operator("a", "MatMul", "float", (1, 7, 32), (32, 5), (1, 7, 5)), 2 * 7 * 32 * 5, 4 * (7 * 32 + 32 * 5 + 7 * 5)),
        (
            Operator("b", "ConvTranspose", "float", (1, 4, 3, 3), (4, 6, 2, 2), (1, 6, 6, 6)),
            2 * 4 * 9 * 24,
            4 * (36 + 96 + 216),
        ),
        (Operator("c", "Upsample", "float", (1, 8, 2, 2), (), (1, 8, 4, 4)), 8 * 16, 4 * (32 + 128)),
        (Operator("d", "QLinearAdd", "uint8", (1, 8, 4, 4), (1, 8, 4, 4), (1, 8, 4, 4)), 128, 3 * 128),
    ],
)
def test_operations_and_bytes_by_hand(operator: Operator, flops: float, size: float) -> None:
    assert operator.flops == flops
    assert operator.bytes == size


def test_a_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load_from_string(chain(1)), path)
    assert operators(path, LOCAL) == operators(chain(1), LOCAL)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float", 4), ("float16", 2), ("bfloat16", 2), ("uint16", 2), ("uint32", 4), ("int8", 1)]
)
def test_bytes_follow_the_type(dtype: str, size: int) -> None:
    assert Operator("relu", "Relu", dtype, (1, 8, 4, 4), (), (1, 8, 4, 4)).bytes == size * 2 * 128
