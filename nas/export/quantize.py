"""A float file to one of mixed precision, block by block: what a policy says is what the file computes.

Static quantization writes QuantizeLinear and DequantizeLinear around what is to run on integers (Jacob et al., Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018; Wu et al., Integer Quantization for Deep
Learning Inference, 2020); ONNX Runtime makes integer kernels of it when it loads the file. It is written here rather than left
to `onnxruntime.quantization` because a search makes hundreds of such files, each of them with other borders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from nas.core import ExportError, Precision, is_fp32
from nas.export.calibration import Range, ranges
from nas.export.graph import Graph
from nas.export.layers import CONVOLUTION, PRODUCTS, layer_precisions
from nas.export.products import MICROSOFT, WEIGHT_MOST, as_dynamic, as_int4

RECTIFIER = "Relu"  # costs nothing after an integer kernel: its zero is the smallest 8-bit value
# Operators without weights that ONNX Runtime also runs on 8 bits; they follow what they stand between.
FOLLOWERS = ("Add", "Resize", "MaxPool", "Concat", "GlobalAveragePool", "AveragePool", "Reshape", "Flatten", "Transpose")
SAME_RANGE = ("Resize", "MaxPool", "Reshape", "Flatten", "Transpose")  # no value that was not there: one scale for both sides
# What makes nearest-neighbour upsampling by whole factors a repetition of rows and columns.
REPEATING = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
BIAS_MOST = 2.0**30


def quantize(model: onnx.ModelProto, policy: Mapping[str, Precision], calibration: NDArray[np.float32]) -> onnx.ModelProto:
    """Return the file that computes each block as the policy says.

    Borders between blocks of one precision cost nothing; an operator without weights (a residual sum, an upsampling) runs on
    integers where both what it reads and what reads it do. A task's last convolution stays in floats: nothing after it runs on
    integers, and ONNX Runtime upsamples its own blocked floats faster than what it would have to turn back to floats.

    Args:
        model: A file that `nas.export.to_onnx` made, by either exporter; not changed.
        policy: Block to precision; a block that is absent computes in fp32.
        calibration: Images for the ranges of activations, pixels in [0, 1], shape (n, channels, height, width), n >= 1.

    Returns:
        A new model, or `model` itself where the policy quantizes nothing.

    Raises:
        ExportError: The network has no such block, there is no such precision, a block has no layer that can have it, or
            there is no image.
    """
    layers = layer_precisions(Graph(model), policy)
    if is_fp32(policy):
        return model
    if not len(calibration):
        raise ExportError("ranges are measured on at least one image: got none; give some of the training images")
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    graph = Graph(mixed)
    static = [name for name, precision in layers.items() if precision == "int8"]
    if static:
        _quantize_static(graph, static, model, calibration)
    for name, precision in layers.items():
        if precision == "int8-dynamic":
            as_dynamic(graph, name)
        elif precision == "int4":
            as_int4(graph, name)
    if "int4" in layers.values():
        mixed.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return graph.finish()


def _quantize_static(graph: Graph, layers: Sequence[str], model: onnx.ModelProto, calibration: NDArray[np.float32]) -> None:
    integer = _with_followers(graph, layers)
    made = {_tail(graph, name): name for name in integer}  # what each makes, behind its rectifier
    eight = dict.fromkeys(value for name in integer for value in _data(graph, name))
    # A convolution has no kernel from integers to floats; a matrix product has, and keeps floats where nobody reads integers.
    eight |= dict.fromkeys(value for value, name in made.items() if graph.nodes[name].op_type not in PRODUCTS)
    found = ranges(model, list(eight), calibration)
    for name in graph.ordered():
        if name in integer and graph.nodes[name].op_type in SAME_RANGE:
            before, after = graph.nodes[name].input[0], _tail(graph, name)
            found[after] = replace(found[before], shape=found[after].shape)
    for name in layers:
        _quantize_layer(graph, name, found[graph.nodes[name].input[0]].scale)
    for value in eight:
        maker = made.get(value)
        factors = _whole_factors(graph, maker, found) if maker else None
        if maker and factors:
            _repeat(graph, maker, found[graph.nodes[maker].input[0]].shape, factors)
        else:
            _quantize_value(graph, value, found[value], value in made)
    for value in eight:
        _dequantize_value(graph, value, found[value], graph.readers(value) if value in made else sorted(integer))


def _with_followers(graph: Graph, layers: Sequence[str]) -> set[str]:
    """Return `layers` and every operator without weights that stands between integer operators."""
    read = {graph.nodes[name].input[0] for name in layers}
    integer = set(layers) | {name for name, node in graph.nodes.items() if node.op_type in FOLLOWERS and _is_plain(graph, name)}
    while True:
        made = {_tail(graph, name) for name in integer} | read
        idle = {
            name
            for name in integer.difference(layers)
            if not made.issuperset(_data(graph, name)) or not integer.intersection(graph.readers(_tail(graph, name)))
        }
        if not idle:
            return integer
        integer -= idle


def _is_plain(graph: Graph, name: str) -> bool:
    """Return whether an operator reads no constant as if it were an activation."""
    return not any(graph.is_constant(value) for value in _data(graph, name))


def _data(graph: Graph, name: str) -> list[str]:
    """Return the activations that a node reads."""
    node = graph.nodes[name]
    return list(node.input) if node.op_type in ("Add", "Concat") else [node.input[0]]


def _tail(graph: Graph, name: str) -> str:
    """Return the value that a node makes, or its rectifier where that alone reads it."""
    value = str(graph.nodes[name].output[0])
    readers = graph.readers(value)
    if len(readers) == 1 and graph.nodes[readers[0]].op_type == RECTIFIER and value not in graph.outputs:
        return str(graph.nodes[readers[0]].output[0])
    return value


def _quantize_value(graph: Graph, value: str, found: Range, made: bool) -> None:
    source = value
    if made and value in graph.outputs:  # the name is of what comes back from 8 bits
        source = f"{value}.float"
        graph.rename(value, source)
    graph.add("QuantizeLinear", [source, *_parameters(graph, value, found)], f"{value}.int", f"{value}.quantize")


def _dequantize_value(graph: Graph, value: str, found: Range, readers: Sequence[str]) -> None:
    back = value if value in graph.outputs and graph.maker(value) is None else f"{value}.back"
    graph.add("DequantizeLinear", [f"{value}.int", *_parameters(graph, value, found)], back, f"{value}.dequantize")
    for name in readers:
        if name in graph.nodes and name != f"{value}.quantize":
            graph.read_instead(name, value, back)


def _parameters(graph: Graph, value: str, found: Range) -> list[str]:
    return [
        graph.constant(f"{value}.scale", np.array(found.scale, dtype=np.float32)),
        graph.constant(f"{value}.zero", np.array(found.zero_point, dtype=np.uint8)),
    ]


def _whole_factors(graph: Graph, name: str, found: Mapping[str, Range]) -> tuple[int, int] | None:
    """Return how often an upsampling repeats each row and column, where that is all it does."""
    node = graph.nodes[name]
    modes = {item.name: item.s.decode() for item in node.attribute if item.name in REPEATING}
    if node.op_type != "Resize" or modes != REPEATING:
        return None
    before, after = found[node.input[0]].shape, found[node.output[0]].shape
    if len(before) != 4 or after[2] % before[2] or after[3] % before[3]:
        return None
    return after[2] // before[2], after[3] // before[3]


def _repeat(graph: Graph, name: str, shape: Sequence[int], factors: tuple[int, int]) -> None:
    """Upsample integers by two Gathers with the channels last, three times as fast as ONNX Runtime's Resize of integers.

    The two Transposes meet those that ONNX Runtime puts around its convolutions, and vanish.
    """
    node = graph.remove(name)
    rows, columns = np.arange(shape[2]).repeat(factors[0]), np.arange(shape[3]).repeat(factors[1])
    last = graph.add("Transpose", [f"{node.input[0]}.int"], f"{name}.last", f"{name}.to_last", perm=[0, 2, 3, 1])
    wide = graph.add("Gather", [last, graph.constant(f"{name}.columns", columns)], f"{name}.wide", f"{name}.widen", axis=2)
    full = graph.add("Gather", [wide, graph.constant(f"{name}.rows", rows)], f"{name}.full", f"{name}.heighten", axis=1)
    graph.add("Transpose", [full], f"{node.output[0]}.int", f"{name}.to_first", perm=[0, 3, 1, 2])


def _quantize_layer(graph: Graph, name: str, x_scale: float) -> None:
    """Store a layer's weight in 8 bits with one scale per output channel, and its bias in 32 bits."""
    node = graph.nodes[name]
    weight = graph.array(node.input[1])
    axis = 0 if node.op_type == CONVOLUTION or any(a.name == "transB" and a.i for a in node.attribute) else weight.ndim - 1
    scale = np.abs(weight).max(axis=tuple(dim for dim in range(weight.ndim) if dim != axis)) / WEIGHT_MOST
    adder, bias = _bias(graph, name, len(scale))
    if bias:  # a channel of tiny weights must not let its bias leave the 32 bits
        scale = np.maximum(scale, np.abs(graph.array(bias)) / (x_scale * BIAS_MOST))
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    shape = [-1 if dim == axis else 1 for dim in range(weight.ndim)]
    stored = np.clip(np.rint(weight / scale.reshape(shape)), -WEIGHT_MOST, WEIGHT_MOST).astype(np.int8)
    graph.read_instead(name, node.input[1], _dequantized(graph, f"{name}.weight", stored, scale, axis))
    if bias:
        bias_scale = (x_scale * scale).astype(np.float32)
        rounded = np.rint(graph.array(bias) / bias_scale).astype(np.int32)
        graph.read_instead(adder, bias, _dequantized(graph, f"{name}.bias", rounded, bias_scale, 0))


def _bias(graph: Graph, name: str, channels: int) -> tuple[str, str]:
    """Return which node adds a layer's bias, the layer itself or a sum that alone reads it, and the bias; "" without one.

    ONNX Runtime makes one node of a product and its sum; in integers only if the bias is one too.
    """
    node = graph.nodes[name]
    if len(node.input) > 2 and graph.is_constant(node.input[2]):
        return name, str(node.input[2])
    readers = graph.readers(node.output[0])
    if node.op_type == "MatMul" and len(readers) == 1 and graph.nodes[readers[0]].op_type == "Add":
        for value in graph.nodes[readers[0]].input:
            if graph.is_constant(value) and graph.array(value).shape == (channels,):
                return readers[0], str(value)
    return name, ""


def _dequantized(graph: Graph, name: str, stored: NDArray[np.integer], scale: NDArray[np.float32], axis: int) -> str:
    inputs = [
        graph.constant(f"{name}.int", stored),
        graph.constant(f"{name}.scale", scale),
        graph.constant(f"{name}.zero", np.zeros(len(scale), dtype=stored.dtype)),
    ]
    return graph.add("DequantizeLinear", inputs, name, f"{name}.dequantize", axis=axis)
