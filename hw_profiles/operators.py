"""The operators that ONNX Runtime runs, after fusion and layout changes, as its own profiler reports them.

What is fused with what, where a blocked layout begins and ends, which convolutions run in eight bits and where values are
quantized and dequantized in between is up to ONNX Runtime; a graph as it was exported does not tell. The optimised graph
does, with every shape, from the events of one profiled run.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.core import Device, DeviceError
from nas.core.operator import Operator, Shape

# Names that are counted through the graph, so that one more layer changes all after it.
_COUNTED = re.compile(r".*_token_\d+|Reorder(In|Out)put|(node_)?[A-Z]\w*_\d+|")
_SUFFIX = "_kernel_time"
_SECOND = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "QLinearAdd": 3, "QLinearMul": 3}  # else the second input
_FUSED_SUM = {"Conv": 4, "FusedConv": 4, "NhwcFusedConv": 4, "QLinearConv": 10}  # with so many inputs a sum is fused


def operators(model: bytes | Path, device: Device) -> tuple[Operator, ...]:
    """Return what ONNX Runtime runs for one input, in order. The network is loaded and run once.

    Args:
        model: An ONNX model, serialised or as a file.
        device: Provider and number of threads: both decide what is fused.

    Raises:
        DeviceError: ONNX Runtime cannot load or run the model.
    """
    names, events = profiled_run(model, device, runs=1)
    return tuple(named(names, events))


def profiled_run(model: bytes | Path, device: Device, runs: int) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """Run a network under the profiler: the nodes' names in the order in which they ran, and each node's events.

    Raises:
        DeviceError: ONNX Runtime cannot load or run the model.
    """
    import onnxruntime

    from hw_profiles.timing import random_inputs, session_options

    with tempfile.TemporaryDirectory(prefix="nas-profile-") as folder:
        options = session_options(device)
        options.add_free_dimension_override_by_name("batch", 1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        try:
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=[device.provider]
            )
            feeds = random_inputs(session)
            for _ in range(runs):
                session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # ONNX Runtime raises a dozen types of its own that share no base
            raise DeviceError(
                f"a model that is profiled loads and runs under ONNX Runtime: it does not ({error}); export it again"
            ) from error
    nodes: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            nodes.setdefault(event["name"].removesuffix(_SUFFIX), []).append(event)
    return list(nodes), nodes


def named(names: Sequence[str], events: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Operator]:
    """Return the operators of a run with names that do not depend on how many layers the network has."""
    result: list[Operator] = []
    layer, used = "", dict[str, int]()
    for name in names:
        details = events[name][0]["args"]
        inputs = [next(iter(item.items())) for item in details.get("input_type_shape", []) if item]
        outputs = [next(iter(item.items())) for item in details.get("output_type_shape", []) if item]
        kind = details["op_name"]
        stable = name.removesuffix("_nchwc")
        if _COUNTED.fullmatch(name):
            stable = f"{kind} after {layer}"
        else:
            layer = stable
        used[stable] = used.get(stable, 0) + 1
        if used[stable] > 1:
            stable = f"{stable} #{used[stable]}"
        second = _SECOND.get(kind, 1)
        fused = len(inputs) >= _FUSED_SUM.get(kind, 1 << 30)
        result.append(
            Operator(
                name=stable,
                kind=f"{kind}+Add" if fused else kind,
                dtype=inputs[0][0] if inputs else "float",
                input=_shape(inputs[0][1]) if inputs else (),
                other=_shape(inputs[second][1]) if len(inputs) > second else (),
                output=_shape(outputs[0][1]) if outputs else (),
            )
        )
    return result


def _shape(values: Sequence[int]) -> Shape:
    return tuple(int(value) for value in values)
