"""An ONNX graph that can be asked who makes and who reads a value, and be edited."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Graph:
    """The nodes of a model by name, its values by name, its constants as arrays.

    Args:
        model: Is edited in place; its nodes have names that differ.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: dict[str, onnx.NodeProto] = {node.name: node for node in model.graph.node}
        self.outputs = {value.name for value in model.graph.output}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {value: name for name, node in self.nodes.items() for value in node.output}
        self._readers: dict[str, list[str]] = defaultdict(list)
        for name, node in self.nodes.items():
            for value in node.input:
                self._readers[value].append(name)

    def maker(self, value: str) -> str | None:
        """Return the node that makes a value; None for inputs and constants."""
        return self._makers.get(value)

    def readers(self, value: str) -> list[str]:
        """Return the nodes that read a value, once per time they read it."""
        return list(self._readers.get(value, ()))

    def is_constant(self, value: str) -> bool:
        """Return whether a value is stored in the file."""
        return value in self._tensors

    def array(self, value: str) -> NDArray[Any]:
        """Return a constant."""
        return numpy_helper.to_array(self._tensors[value])

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store a constant and return its name."""
        if name not in self._tensors:
            self._tensors[name] = self.model.graph.initializer.add()
            self._tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add_outputs(self, operator: str, inputs: list[str], outputs: list[str], name: str) -> None:
        """Add a node with several outputs."""
        self._add(helper.make_node(operator, inputs, outputs, name))

    def add(self, operator: str, inputs: list[str], output: str, name: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return its output."""
        self._add(helper.make_node(operator, inputs, [output], name, domain=domain or None, **attributes))
        return output

    def remove(self, name: str) -> onnx.NodeProto:
        """Take a node out and return it."""
        node = self.nodes.pop(name)
        for value in node.input:
            self._readers[value].remove(name)
        for value in node.output:
            if self._makers.get(value) == name:
                del self._makers[value]
        return node

    def read_instead(self, name: str, old: str, new: str) -> None:
        """Let a node read `new` wherever it reads `old`."""
        node = self.nodes[name]
        for index, value in enumerate(node.input):
            if value == old:
                node.input[index] = new
                self._readers[old].remove(name)
                self._readers[new].append(name)

    def rename(self, value: str, new: str) -> None:
        """Let the maker of a value call it `new`; who reads the value waits for another maker."""
        maker = self._makers.pop(value)
        self._makers[new] = maker
        node = self.nodes[maker]
        node.output[:] = [new if made == value else made for made in node.output]

    def ordered(self) -> list[str]:
        """Return the nodes that the outputs need, makers before readers."""
        order: list[str] = []
        placed: set[str] = set()
        stack = [(self._makers[value], False) for value in sorted(self.outputs, reverse=True) if value in self._makers]
        while stack:
            name, ready = stack.pop()
            if ready:
                order.append(name)
            elif name not in placed:
                placed.add(name)
                stack.append((name, True))
                stack += [(maker, False) for value in self.nodes[name].input if (maker := self._makers.get(value))]
        return order

    def _add(self, node: onnx.NodeProto) -> None:
        self.nodes[node.name] = node
        self._makers |= dict.fromkeys(node.output, node.name)
        for value in node.input:
            self._readers[value].append(node.name)

    def finish(self) -> onnx.ModelProto:
        """Return the model with its nodes in order, and without what no output needs."""
        graph = self.model.graph
        nodes = [_copied(self.nodes[name]) for name in self.ordered()]
        read = {value for node in nodes for value in node.input} | self.outputs
        tensors = [_copied_tensor(tensor) for name, tensor in self._tensors.items() if name in read]
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(nodes)
        graph.initializer.extend(tensors)
        return self.model


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _copied_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy
