"""The operators that ONNX Runtime runs, after fusion and layout changes.

What is fused with what, where a blocked layout begins and ends, which convolutions run in eight bits and where values are
quantized and dequantized in between is up to ONNX Runtime; the graph as it was exported does not tell. The optimised graph
does, which ONNX Runtime writes when it loads a network, with the shapes that its profiler reports of one run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_profiles.timing import random_inputs, session_options
from nas.core import Device, DeviceError
from nas.core.operator import Operator, Shape
from nas.core.scratch import scratch

if TYPE_CHECKING:
    import onnx

EVENT = "_kernel_time"  # end of the name of the events that time a node
# What ONNX Runtime adds to names that are taken: counted through the graph, so that one more layer changes them all.
_COUNTER = re.compile(r"(_nchwc)?(_token_\d+)?(_nchwc)?$")
_MOVES = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput", "Cast"})
_NO_LAYER = re.compile(r"(node_)?([A-Z][A-Za-z]+)?(_\d+)?")  # a name that says what is done but not where
_SECOND = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "QLinearAdd": 3, "QLinearMul": 3}  # else the second input
_SUM = 3  # input of a fused convolution that is added to its result


@dataclass(frozen=True, slots=True)
class ProfiledNode:
    """A node of the optimised graph and the events of its runs, as ONNX Runtime's profiler writes them."""

    operator: Operator
    events: tuple[dict[str, Any], ...]


def operators(model: bytes | Path, device: Device) -> tuple[Operator, ...]:
    """Return what ONNX Runtime runs for one input, in order. The network is loaded and run once.

    Args:
        model: An ONNX model, serialised or as a file.
        device: Provider and number of threads: both decide what is fused.

    Raises:
        DeviceError: ONNX Runtime cannot load or run the model.
    """
    return tuple(node.operator for node in profiled_run(model, device, runs=1))


def profiled_run(model: bytes | Path, device: Device, runs: int) -> list[ProfiledNode]:
    """Run a network under the profiler and return its nodes in the order in which they ran.

    Raises:
        DeviceError: ONNX Runtime cannot load or run the model.
    """
    import onnx
    import onnxruntime

    with scratch() as folder:
        optimised = folder / "optimised.onnx"
        options = session_options(device)
        options.add_free_dimension_override_by_name("batch", 1)
        options.optimized_model_filepath = str(optimised)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "run")
        try:
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=[device.provider]
            )
            feeds = random_inputs(session)
            for _ in range(runs):
                session.run(None, feeds)
            found = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # ONNX Runtime raises a dozen types of its own that share no base
            raise DeviceError(
                f"a model that is profiled loads and runs under ONNX Runtime: it does not ({error}); export it again"
            ) from error
        graph = onnx.load(optimised).graph
    events: dict[str, list[dict[str, Any]]] = {}
    for event in found:
        if event.get("cat") == "Node" and event["name"].endswith(EVENT):
            events.setdefault(event["name"].removesuffix(EVENT), []).append(event)
    by_name = {node.name: node for node in graph.node}
    names = _stable_names([by_name[name] for name in events])
    weights: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    last = _channels_last([by_name[name] for name in events])
    return [
        ProfiledNode(_operator(stable, by_name[name], own[0]["args"], weights, last), tuple(own))
        for stable, (name, own) in zip(names, events.items(), strict=True)
    ]


def _stable_names(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Return names that depend on little else than the operator.

    A layer has its own name. What moves values between layers is named by its kind and the part of the network that the value
    comes from; a value is dequantized anew for every reader, so that there the part that reads it belongs to the name.
    """
    makers = {value: node for node in nodes for value in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for value in node.input:
            readers.setdefault(value, []).append(node)

    def source(node: onnx.NodeProto) -> str:
        before = [makers[value] for value in node.input if value in makers]
        if not before:
            return "input"
        return way(before[0]) if _moves(before[0]) else _part(before[0])

    def target(node: onnx.NodeProto) -> str:
        after = [reader for value in node.output for reader in readers.get(value, ())]
        if not after:
            return "output"
        return target(after[0]) if _moves(after[0]) else _part(after[0])

    def way(node: onnx.NodeProto) -> str:
        """Return where a value that is moved comes from and, once it is dequantized, where it goes."""
        start = source(node)
        return f"{start} to {target(node)}" if node.op_type == "DequantizeLinear" and " to " not in start else start

    used: dict[str, int] = {}
    names = []
    for node in nodes:
        name = f"{node.op_type} from {way(node)}" if _moves(node) else _layer(node)
        used[name] = used.get(name, 0) + 1
        names.append(name if used[name] == 1 else f"{name} #{used[name]}")
    return names


def _layer(node: onnx.NodeProto) -> str:
    return _COUNTER.sub("", node.name)


def _part(node: onnx.NodeProto) -> str:
    """Return the outermost two names of the path of a layer: what is deeper depends on how many layers a part has."""
    return ".".join(_layer(node).split("/")[0].split(".")[:2]) or _layer(node)


def _moves(node: onnx.NodeProto) -> bool:
    return node.op_type in _MOVES or _NO_LAYER.fullmatch(_layer(node)) is not None


def _channels_last(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Return the values that ONNX Runtime keeps with channels last: from its transposition on until the one back."""
    from onnx import helper

    values: set[str] = set()
    for node in nodes:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Transpose":
            last = list(given.get("perm", ())) == [0, 2, 3, 1]
        else:
            last = bool(given.get("channels_last")) or bool(values.intersection(node.input))
        values |= set(node.output) if last else set()
    return values


def _operator(
    name: str, node: onnx.NodeProto, details: dict[str, Any], weights: dict[str, Shape], channels_last: set[str]
) -> Operator:
    """Return a node with its shapes, channels first; those of weights that a kernel has packed the graph alone knows."""
    given: list[tuple[str, list[int]]] = [next(iter(item.items()), ("", [])) for item in details["input_type_shape"]]
    made: list[tuple[str, list[int]]] = [next(iter(item.items()), ("", [])) for item in details["output_type_shape"]]
    second = _SECOND.get(node.op_type, 1)
    other: Shape = ()
    if len(node.input) > second:
        here = sum(bool(value) for value in node.input[:second])  # inputs that are left out are not reported
        value = node.input[second]
        known = _shape(given[here][1], value in channels_last) if len(given) > here else ()
        other = weights.get(value) or known
    fused = node.domain.endswith("nchwc") and len(node.input) > _SUM and bool(node.input[_SUM])
    return Operator(
        name=name,
        kind=f"{node.op_type}+Add" if fused else node.op_type,
        dtype=given[0][0] if given else "float",
        input=_shape(given[0][1], node.input[0] in channels_last) if given else (),
        other=other,
        output=_shape(made[0][1], node.output[0] in channels_last) if made else (),
    )


def _shape(sides: Sequence[int], channels_last: bool) -> Shape:
    return (sides[0], sides[-1], *sides[1:-1]) if channels_last and len(sides) > 2 else tuple(sides)
