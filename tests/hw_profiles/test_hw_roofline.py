"""The cost model against published intensities of BERT-base, and a graph against hand-derived counts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.reference import reference_model
from hw_profiles.roofline import OpCost, Roofline, matmul_cost, op_costs
from nas.core import DeviceError


def intensity(ops: list[OpCost]) -> float:
    return sum(op.flops for op in ops) / sum(op.bytes for op in ops)


@pytest.mark.parametrize(("tokens", "expected"), [(128, (192.0, 211.9, 64.0)), (512, (438.9, 558.6, 102.4))])
def test_bert_base_at_one_byte_per_value(tokens: int, expected: tuple[float, float, float]) -> None:
    # Kim et al., Full Stack Optimization of Transformer Inference, table of BERT-base: 12 layers, 12 heads of 64.
    projections = [matmul_cost(tokens, 768, 768, 1.0, count=48)]
    feed_forward = [matmul_cost(tokens, 768, 3072, 1.0, count=12), matmul_cost(tokens, 3072, 768, 1.0, count=12)]
    products = [matmul_cost(tokens, 64, tokens, 1.0, count=144), matmul_cost(tokens, tokens, 64, 1.0, count=144)]
    assert [intensity(ops) for ops in (projections, feed_forward, products)] == pytest.approx(expected, abs=0.06)


def test_bert_base_s_operations() -> None:
    assert matmul_cost(128, 768, 768, count=48).flops == pytest.approx(7.25e9, rel=1e-3)
    assert matmul_cost(512, 768, 3072, count=24).flops == pytest.approx(57.98e9, rel=1e-3)


def test_an_operator_takes_the_longer_of_arithmetic_and_traffic() -> None:
    machine = Roofline(peak_flops=100.0, bytes_per_s=10.0, overhead_s=0.5)
    assert machine.ridge == 10.0
    assert machine.seconds(OpCost("a", "Conv", 200.0, 10.0)) == 2.5  # intensity 20, above the ridge
    assert machine.seconds(OpCost("b", "Add", 10.0, 40.0)) == 4.5
    assert machine.total_ms([OpCost("a", "Conv", 200.0, 10.0), OpCost("b", "Add", 10.0, 40.0)]) == 7000.0
    assert OpCost("c", "Reshape", 0.0, 0.0).intensity == 0.0


def graph(nodes: list[onnx.NodeProto], input_shape: list[int | str], weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    built = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_convolution_with_a_dynamic_batch() -> None:
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], group=2)
    model = graph([conv, helper.make_node("Relu", ["c"], ["y"])], ["batch", 4, 8, 6], {"w": (6, 2, 3, 3), "b": (6,)})
    first, second = op_costs(model)
    outputs = 6 * 4 * 3
    assert (first.kind, first.flops) == ("Conv", 2 * outputs * 2 * 9)
    assert first.bytes == 4 * (4 * 8 * 6 + 6 * 2 * 9 + 6 + outputs)
    assert second == OpCost("y", "Relu", outputs, 4 * 2 * outputs)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"  # the caller's model is as it was


def test_products_and_moves() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "g"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "m"], ["p"]),
        helper.make_node("Concat", ["p", "p"], ["y"], axis=1),
    ]
    model = graph(nodes, [1, 2, 6], {"g": (5, 12), "m": (5, 7)})
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 12], np.int64), "shape"))
    reshape, gemm, matmul, concat = op_costs(model)
    assert (reshape.flops, reshape.bytes) == (0, 0)
    assert (gemm.flops, gemm.bytes) == (2 * 12 * 5, 4 * (12 + 60 + 5))
    assert (matmul.flops, matmul.bytes) == (2 * 5 * 7, 4 * (5 + 35 + 7))
    assert (concat.flops, concat.bytes) == (0, 4 * (7 + 7 + 14))


def test_a_transposed_convolution() -> None:
    model = graph([helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])], [1, 4, 5, 5], {"w": (4, 6, 2, 2)})
    assert op_costs(model)[0].flops == 2 * 25 * 4 * 6 * 4


def test_an_operator_without_a_rule_is_an_error() -> None:
    model = graph([helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")], [2, 3], {"w": (3, 4)})
    with pytest.raises(DeviceError, match="Einsum"):
        op_costs(model)


def test_the_reference_network_s_multiply_accumulates() -> None:
    # Rows are layers: outputs of height and width, channels in and out, kernel area; the depthwise one has one channel in.
    layers = [
        (64 * 96, 3, 16, 9),
        (32 * 48, 16, 32, 9),
        (32 * 48, 32, 32, 9),
        (32 * 48, 32, 96, 1),
        (32 * 48, 1, 96, 9),
        (32 * 48, 96, 32, 1),
        (16 * 24, 32, 64, 9),
        (16 * 24, 64, 64, 9),
        (32 * 48, 64, 32, 9),
        (32 * 48, 32, 8, 1),
    ]
    ops = op_costs(onnx.load_from_string(reference_model()))
    macs = sum(op.flops for op in ops if op.kind == "Conv") / 2
    assert macs == sum(pixels * inputs * outputs * area for pixels, inputs, outputs, area in layers)
