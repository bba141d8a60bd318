"""Matrix products with quantized weights: activations quantized while the network runs, or weights of 4 bits."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from nas.export.graph import Graph

# Two products with activations of 8 bits without a sign are summed in 16 bits on processors that lack VNNI (AVX2's
# vpmaddubsw), and clipped there: 2 * 255 * 64 is the most that fits. The file then computes the same everywhere.
WEIGHT_MOST = 64
GROUP = 32  # weights that share a scale of 4-bit weights
MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators


def as_dynamic(graph: Graph, name: str) -> None:
    """Replace a matrix product by one on 8-bit integers whose activations get their range from each input.

    The operators are ONNX's own; ONNX Runtime fuses them into one kernel.
    """
    node = graph.remove(name)
    weight, bias = _weight_and_bias(graph, node)  # (k, n), (n,)
    scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / WEIGHT_MOST  # (n,)
    stored = np.rint(weight / scale).astype(np.int8)
    x, out = node.input[0], node.output[0]
    graph.add_outputs("DynamicQuantizeLinear", [x], [f"{name}.x", f"{name}.x_scale", f"{name}.x_zero"], f"{name}.quantize")
    graph.constant(f"{name}.weight", stored)
    graph.constant(f"{name}.weight_scale", scale.astype(np.float32))
    graph.constant(f"{name}.weight_zero", np.zeros(len(scale), dtype=np.int8))
    inputs = [f"{name}.x", f"{name}.weight", f"{name}.x_zero", f"{name}.weight_zero"]
    graph.add("MatMulInteger", inputs, f"{name}.sum", f"{name}.product")
    graph.add("Cast", [f"{name}.sum"], f"{name}.float", f"{name}.cast", to=1)
    graph.add("Mul", [f"{name}.x_scale", f"{name}.weight_scale"], f"{name}.scale", f"{name}.scales")
    last = out if bias is None else f"{name}.scaled"
    graph.add("Mul", [f"{name}.float", f"{name}.scale"], last, name)
    if bias is not None:
        graph.add("Add", [last, graph.constant(f"{name}.bias", bias)], out, f"{name}.add")


def as_int4(graph: Graph, name: str) -> None:
    """Replace a matrix product by ONNX Runtime's with weights of 4 bits, in groups along the inputs with a scale each."""
    node = graph.remove(name)
    weight, bias = _weight_and_bias(graph, node)
    packed, scales = pack_int4(weight)
    inputs = [node.input[0], graph.constant(f"{name}.weight", packed), graph.constant(f"{name}.weight_scale", scales)]
    if bias is not None:
        inputs += ["", "", graph.constant(f"{name}.bias", bias)]
    k, n = weight.shape
    graph.add("MatMulNBits", inputs, node.output[0], name, MICROSOFT, K=k, N=n, bits=4, block_size=GROUP)


def pack_int4(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return weights of shape (k, n) as MatMulNBits stores them, symmetric around 8.

    Returns:
        Two values a byte, the first in the low bits, shape (n, ceil(k / 32), 16); and the scales, shape (n * ceil(k / 32),).
    """
    k, n = weight.shape
    groups = -(-k // GROUP)
    padded = np.zeros((n, groups * GROUP), dtype=np.float32)
    padded[:, :k] = weight.T
    padded = padded.reshape(n, groups, GROUP)
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(axis=2, keepdims=True), axis=2)
    scale = extreme / -8  # the largest of a group, with its sign, is stored as 0: -8 is there, 8 is not
    scale[scale == 0] = 1.0
    stored = np.clip(np.rint(padded / scale) + 8, 0, 15).astype(np.uint8)
    packed = (stored[:, :, 0::2] | (stored[:, :, 1::2] << 4)).astype(np.uint8)
    return packed, scale.reshape(-1).astype(np.float32)


def _weight_and_bias(graph: Graph, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return what a product multiplies by, shape (k, n), and adds, shape (n,)."""
    weight = graph.array(node.input[1]).astype(np.float32)
    if node.op_type == "MatMul":
        return weight, None
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    weight = (weight.T if attributes.get("transB", 0) else weight) * attributes.get("alpha", 1.0)
    bias = graph.array(node.input[2]) * attributes.get("beta", 1.0) if len(node.input) > 2 else None
    return weight, bias
