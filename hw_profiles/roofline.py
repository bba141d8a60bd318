"""The roofline cost model: an operator takes as long as its arithmetic or its memory traffic, whichever is longer.

Williams, Waterman and Patterson, Roofline, 2009; arithmetic intensities of Transformers as in Kim et al., Full Stack
Optimization of Transformer Inference, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.core import DeviceError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class OpCost:
    """Arithmetic and memory traffic of one operator for one input.

    Attributes:
        name: Name of the operator, or of its first output.
        kind: Operator type, such as ``Conv``.
        flops: Floating-point operations, two per multiply-accumulate.
        bytes: Weights, inputs and outputs, each moved once; nothing is kept between operators.
    """

    name: str
    kind: str
    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True, slots=True)
class Roofline:
    """A machine.

    Attributes:
        peak_flops: Floating-point operations per second.
        bytes_per_s: Memory bandwidth.
        overhead_s: Added to every operator.
    """

    peak_flops: float
    bytes_per_s: float
    overhead_s: float = 0.0

    @property
    def ridge(self) -> float:
        """The intensity in operations per byte above which arithmetic is what limits."""
        return self.peak_flops / self.bytes_per_s

    def seconds(self, op: OpCost) -> float:
        """Return how long one operator takes."""
        return max(op.flops / self.peak_flops, op.bytes / self.bytes_per_s) + self.overhead_s

    def total_ms(self, ops: Iterable[OpCost]) -> float:
        """Return how long operators take one after the other, in milliseconds."""
        return 1e3 * sum(self.seconds(op) for op in ops)


def matmul_cost(rows: int, inner: int, columns: int, bytes_per_value: float = 4.0, count: int = 1, name: str = "") -> OpCost:
    """Return the cost of `count` products of (rows, inner) and (inner, columns) matrices."""
    moved = inner * columns + rows * inner + rows * columns
    return OpCost(name, "MatMul", 2.0 * rows * inner * columns * count, bytes_per_value * moved * count)


# These move or rename values and compute nothing.
_MOVE_NAMES = (
    "Identity Reshape Transpose Concat Slice Gather Split Squeeze Unsqueeze Flatten Pad Expand Cast Constant Shape Dropout "
    "ConstantOfShape Tile DepthToSpace SpaceToDepth Range"
)
_MOVES = frozenset(_MOVE_NAMES.split())
_NO_TRAFFIC = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Constant", "Shape", "Dropout"})
_MACS_WITHOUT_RULE = frozenset({"Einsum", "LSTM", "GRU", "RNN", "Attention", "ConvInteger", "MatMulInteger", "DeformConv"})


def op_costs(model: onnx.ModelProto) -> list[OpCost]:
    """Return the cost of every operator of a graph, in order, for one input (dynamic dimensions are 1).

    Convolutions, transposed convolutions, `Gemm` and `MatMul`, quantized or not, count two operations per
    multiply-accumulate. Operators that move values count none. Every other one counts one per value of its input or
    output, whichever has more: a pooling reads each value once, an addition writes each once.

    Raises:
        DeviceError: A shape cannot be inferred, or an operator that multiplies and accumulates has no rule here.
    """
    import onnx
    from onnx import shape_inference

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.WhichOneof("value") != "dim_value":
                dimension.dim_value = 1
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    sizes = _sizes(graph)
    return [_cost(node, sizes) for node in graph.node]


@dataclass(frozen=True, slots=True)
class _Size:
    shape: tuple[int, ...]
    bytes_per_value: float

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        return self.values * self.bytes_per_value


def _sizes(graph: onnx.GraphProto) -> dict[str, _Size]:
    from onnx import helper

    sizes = {tensor.name: _Size(tuple(tensor.dims), _itemsize(tensor.data_type)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.WhichOneof("value") == "dim_value" for d in kind.shape.dim):
            sizes[value.name] = _Size(tuple(d.dim_value for d in kind.shape.dim), _itemsize(kind.elem_type))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensor = helper.get_attribute_value(attribute)
                sizes[node.output[0]] = _Size(tuple(tensor.dims), _itemsize(tensor.data_type))
    return sizes


def _itemsize(data_type: int) -> float:
    from onnx import helper

    return float(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _cost(node: onnx.NodeProto, sizes: Mapping[str, _Size]) -> OpCost:
    name = node.name or node.output[0]
    if node.op_type in _MACS_WITHOUT_RULE:
        raise DeviceError(f"an operator is counted by a rule for its kind: {node.op_type} ({name}) has none; leave it out")
    inputs = [_known(value, node, sizes) for value in node.input if value]
    outputs = [_known(value, node, sizes) for value in node.output if value]
    moved = 0.0 if node.op_type in _NO_TRAFFIC else sum(size.bytes for size in (*inputs, *outputs))
    if node.op_type in ("Gather", "Slice", "Split"):
        moved = 2 * sum(size.bytes for size in outputs)  # only what is taken is read
    return OpCost(name, node.op_type, float(_flops(node, inputs, outputs)), moved)


def _known(value: str, node: onnx.NodeProto, sizes: Mapping[str, _Size]) -> _Size:
    if value not in sizes:
        raise DeviceError(
            f"an operator is counted by the shapes around it: that of {value!r} at {node.op_type} cannot be inferred; "
            "export the network with fixed spatial sizes"
        )
    return sizes[value]


def _flops(node: onnx.NodeProto, inputs: Sequence[_Size], outputs: Sequence[_Size]) -> float:
    kind, result = node.op_type, outputs[0].values
    if kind in _MOVES:
        return 0
    if kind in ("Conv", "QLinearConv"):
        weight = inputs[1 if kind == "Conv" else 3].shape  # (outputs, inputs / groups, *kernel)
        return 2 * result * math.prod(weight[1:])
    if kind == "ConvTranspose":
        weight = inputs[1].shape  # (inputs, outputs / groups, *kernel)
        return 2 * inputs[0].values * math.prod(weight[1:])
    if kind in ("MatMul", "QLinearMatMul"):
        return 2 * result * inputs[0].shape[-1]
    if kind == "Gemm":
        return 2 * result * inputs[0].shape[0 if _attribute(node, "transA") else 1]
    return max(result, inputs[0].values if inputs else 0)


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)
