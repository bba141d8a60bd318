"""The reference network: what other networks' times are divided by, so that a drift of the machine cancels."""

from __future__ import annotations

import numpy as np

SIZE = (128, 192)  # rows and columns of the input
SEED = 20240229


def reference_model() -> bytes:
    """Return a small convolutional network as serialised ONNX, the same bytes for the same version of ONNX.

    Dense, depthwise and pointwise convolutions with rectifiers and one resampling, 85 M multiply-accumulates for an input
    of shape (1, 3, 128, 192): a mix of compute-bound and memory-bound work like that of the networks it is compared to.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(SEED)
    nodes = []
    weights = []

    def conv(source: str, target: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        fan_in = kernel * kernel * inputs // groups
        weight = rng.standard_normal((outputs, inputs // groups, kernel, kernel)) * np.sqrt(2.0 / fan_in)
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{target}.weight"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{target}.weight"],
                [f"{target}.conv"],
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[kernel // 2] * 4,
                group=groups,
            )
        )
        nodes.append(helper.make_node("Relu", [f"{target}.conv"], [target]))

    conv("input", "stem", 3, 16, 3, stride=2)  # (16, 64, 96)
    conv("stem", "dense1", 16, 32, 3, stride=2)  # (32, 32, 48)
    conv("dense1", "dense2", 32, 32, 3)
    conv("dense2", "expand", 32, 96, 1)
    conv("expand", "depthwise", 96, 96, 3, groups=96)
    conv("depthwise", "project", 96, 32, 1)
    nodes.append(helper.make_node("Add", ["dense2", "project"], ["sum"]))
    conv("sum", "dense3", 32, 64, 3, stride=2)  # (64, 16, 24)
    conv("dense3", "dense4", 64, 64, 3)
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], dtype=np.float32), "scales"))
    nodes.append(helper.make_node("Resize", ["dense4", "", "scales"], ["up"], mode="nearest"))  # (64, 32, 48)
    conv("up", "fuse", 64, 32, 3)
    conv("fuse", "output", 32, 8, 1)  # (8, 32, 48)
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 8, SIZE[0] // 4, SIZE[1] // 4])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialised: bytes = model.SerializeToString()
    return serialised
