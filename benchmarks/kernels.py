"""How much faster are convolutions in 8 bits than in fp32 on this processor? The ceiling of what quantizing can save.

Stacks of 3x3 convolutions with rectifiers, one per channel count, as ONNX files in fp32 and quantized as candidates are (the
head, one channel wide, stays in fp32); billions of multiply-accumulates a second under ONNX Runtime on a device, everything
around the convolutions included.

    python benchmarks/kernels.py --json kernels.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.devices import load_device
from hw_profiles.timing import LatencyMeter
from nas.export import quantize

HEIGHT, WIDTH = 48, 64
LAYERS = 8
BLOCK = "stack"


def stack(channels: int) -> onnx.ModelProto:
    """Return `LAYERS` convolutions that keep the channels and the size, and a head."""
    rng = np.random.default_rng(channels)
    shape = (channels, channels, 3, 3)
    nodes, weights, source = [], [], "image"
    for layer in range(LAYERS):
        values = rng.standard_normal(shape) * np.sqrt(2 / (9 * channels))
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weight{layer}"))
        name = f"{BLOCK}.{layer}"
        inputs = [source, f"weight{layer}"]
        nodes.append(helper.make_node("Conv", inputs, [f"conv{layer}"], f"{name}/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"], f"{name}/Relu"))
        source = f"relu{layer}"
    head = rng.standard_normal((1, channels, 1, 1)).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("Conv", [source, "head"], ["output"], "head/Conv", kernel_shape=[1, 1]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, HEIGHT, WIDTH])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])
    graph = helper.make_graph(nodes, "stack", [image], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def main() -> None:
    """Measure, print a row per channel count and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", nargs="+", type=int, default=[8, 16, 32, 64, 128])
    parser.add_argument("--device", default="local")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    meter = LatencyMeter(load_device(given.device))
    rows = []
    print(f"{'channels':>8s}{'fp32 G/s':>10s}{'int8 G/s':>10s}{'ratio':>7s}")
    for channels in given.channels:
        floats = stack(channels)
        images = np.random.default_rng(0).random((4, channels, HEIGHT, WIDTH), dtype=np.float32)
        mixed = quantize(floats, {BLOCK: "int8"}, images)
        ms = [meter.measure(model.SerializeToString()).ms for model in (floats, mixed)]
        rates = [LAYERS * 9 * channels**2 * HEIGHT * WIDTH / t / 1e6 for t in ms]
        rows.append({"channels": channels, "fp32": rates[0], "int8": rates[1]})
        print(f"{channels:8d}{rates[0]:10.1f}{rates[1]:10.1f}{rates[1] / rates[0]:7.2f}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
