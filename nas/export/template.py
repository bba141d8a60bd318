"""The graph of a network without its weights: exported once per structure, filled with the weights of any subnet.

Torch's exporter takes seconds for a graph that is the same for every subnet of one structure. A template is that graph, with
every parameter named as in the module's ``state_dict``. Filling it computes what depends on weights alone: batch norms are
folded into convolutions before them (Jacob et al., CVPR 2018, section 3.2), and whatever else the exporter left to be computed
from parameters, such as the transpose of a matrix, is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from nas.core import ExportError
from nas.export.traced import OPSET

Values = dict[str, NDArray[np.generic]]
PREFIX = "module."  # of the parameters' names, as the exported wrapper has the network as its `module`


@dataclass(frozen=True, slots=True)
class Fold:
    """A batch norm that becomes part of the convolution before it.

    Attributes:
        weight: Name of the convolution's weight, and of its bias; an empty name where it has none.
        norm: Names of the batch norm's scale, shift, mean and variance.
        epsilon: Added to the variance.
        folded: Names of the weight and the bias that come of it.
    """

    weight: tuple[str, str]
    norm: tuple[str, str, str, str]
    epsilon: float
    folded: tuple[str, str]

    def compute(self, values: Values) -> Values:
        """Return the folded weight, of shape (outputs, ...), and bias, of shape (outputs,)."""
        scale, shift, mean, variance = (values[name].astype(np.float64) for name in self.norm)
        factor = scale / np.sqrt(variance + self.epsilon)
        weight = values[self.weight[0]].astype(np.float64)
        bias = values[self.weight[1]].astype(np.float64) if self.weight[1] else 0.0
        wide = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return {
            self.folded[0]: wide.astype(np.float32),
            self.folded[1]: np.asarray(shift + (bias - mean) * factor, dtype=np.float32),
        }


class Template:
    """A graph to be filled.

    Args:
        graph: As exported, every node named; its parameters, called ``module.NAME``, are read but stored nowhere. Not changed.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.graph = graph
        self._constants: Values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        made = {value for node in graph.graph.node for value in node.output}
        read = {value for node in graph.graph.node for value in node.input}
        inputs = {value.name for value in graph.graph.input}
        self._parameters = {name for name in read - made - inputs - self._constants.keys() if name.startswith(PREFIX)}
        first, self._body = self._parted()
        self._body, self._folds = _folded(
            self._body, self._parameters | set(self._constants) | _outputs(first), {o.name for o in graph.graph.output}
        )
        wanted = {value for node in self._body for value in node.input} | {
            name for fold in self._folds for name in (*fold.weight, *fold.norm)
        }
        self._first = _evaluator(first, [name for node in first for name in node.output if name in wanted])

    def fill(self, module: nn.Module) -> onnx.ModelProto:
        """Return the ONNX model of a module of the template's structure.

        Raises:
            ExportError: The module lacks one of the parameters.
        """
        own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
        values = dict(self._constants)
        for name in self._parameters:
            tensor = own.get(name.removeprefix(PREFIX))
            if tensor is None:
                raise ExportError(f"a graph is filled with the parameters it was exported with: {name} is not in the module")
            values[name] = (tensor.detach().float() if tensor.is_floating_point() else tensor).cpu().numpy()
        if self._first is not None:
            needed = {name: values[name] for name in self._first.input_names}
            values |= zip(self._first.output_names, _run(self._first, needed), strict=True)
        for fold in self._folds:
            values |= fold.compute(values)
        read = {value for node in self._body for value in node.input}
        model = onnx.ModelProto()
        model.CopyFrom(self.graph)
        for field in ("node", "initializer", "value_info"):
            model.graph.ClearField(field)
        model.graph.node.extend(self._body)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(values[name]), name) for name in sorted(read & values.keys())
        )
        return model

    def _parted(self) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """Return the nodes that depend on parameters alone, and those that depend on the input; evaluate those of constants."""
        first: list[onnx.NodeProto] = []
        body: list[onnx.NodeProto] = []
        weights = set(self._parameters)
        for node in self.graph.graph.node:
            inputs = [value for value in node.input if value]
            if all(value in self._constants for value in inputs) and _is_pure(node):
                evaluator = _evaluator([node], list(node.output))
                assert evaluator is not None
                found = _run(evaluator, {name: self._constants[name] for name in inputs})
                self._constants |= zip(node.output, found, strict=True)
            elif all(value in self._constants or value in weights for value in inputs) and _is_pure(node):
                first.append(node)
                weights |= set(node.output)
            else:
                body.append(node)
        return first, body


def _is_pure(node: onnx.NodeProto) -> bool:
    """Return whether a node computes the same from the same inputs, and has no graph of its own that reads other values."""
    return "Random" not in node.op_type and not any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute)


def _outputs(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {value for node in nodes for value in node.output}


def _evaluator(nodes: list[onnx.NodeProto], outputs: list[str]) -> ReferenceEvaluator | None:
    """Return what computes `outputs` by these nodes from whatever else they read; None where there is nothing to compute."""
    if not outputs:
        return None
    made = _outputs(nodes)
    inputs = dict.fromkeys(value for node in nodes for value in node.input if value and value not in made)
    graph = helper.make_graph(
        nodes,
        "first",
        [onnx.ValueInfoProto(name=name) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


def _run(evaluator: ReferenceEvaluator, inputs: Values) -> list[NDArray[np.generic]]:
    return [np.asarray(value) for value in evaluator.run(None, inputs)]


def _folded(nodes: list[onnx.NodeProto], known: set[str], outputs: set[str]) -> tuple[list[onnx.NodeProto], list[Fold]]:
    """Return the nodes without the batch norms that follow a convolution alone, and how each becomes part of it.

    Args:
        nodes: Of the graph; not changed.
        known: Values that are known without the input.
        outputs: Of the graph.
    """
    makers = {node.output[0]: index for index, node in enumerate(nodes) if node.op_type == "Conv"}
    readers: dict[str, int] = {}
    for node in nodes:
        for value in node.input:
            readers[value] = readers.get(value, 0) + 1
    kept, folds = list(nodes), []
    gone: set[int] = set()
    for index, node in enumerate(nodes):
        if node.op_type != "BatchNormalization" or len([value for value in node.output if value]) > 1:
            continue
        maker = makers.get(node.input[0])
        if maker is None or readers[node.input[0]] > 1 or node.input[0] in outputs:
            continue
        convolution = onnx.NodeProto()
        convolution.CopyFrom(nodes[maker])
        if not {*convolution.input[1:], *node.input[1:]} <= known:
            continue
        epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
        weight = (str(convolution.input[1]), str(convolution.input[2]) if len(convolution.input) > 2 else "")
        folded = (f"{convolution.name}.folded_weight", f"{convolution.name}.folded_bias")
        scale, shift, mean, variance = (str(value) for value in node.input[1:])
        folds.append(Fold(weight, (scale, shift, mean, variance), epsilon, folded))
        convolution.input[1:] = folded
        convolution.output[:] = [node.output[0]]
        kept[maker] = convolution
        gone.add(index)
    return [node for index, node in enumerate(kept) if index not in gone], folds
