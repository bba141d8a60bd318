"""Torch modules as ONNX models with a dynamic batch; torch exports each structure of network once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from nas.core import ExportError, InputSpec, Task
from nas.export.check import TOLERANCE, max_differences
from nas.export.structure import structure
from nas.export.template import Template
from nas.export.traced import RESERVED_INPUT, exported_graph, input_name, output_name


class Exporter:
    """Makes the ONNX models of one job's networks.

    The first network of a structure is exported by torch; the others fill its graph with their own weights. Every model is
    compared with its module before it is handed out, so that a graph which does not fit all of its structure is found: torch
    then exports that very module.

    Args:
        input: What the networks take.
        tasks: Name the outputs.
        folder: Where graphs are kept for other processes; None keeps them in this one alone.
    """

    def __init__(self, input: InputSpec, tasks: Sequence[Task], folder: Path | None = None) -> None:
        self._input, self._tasks, self._folder = input, tuple(tasks), folder
        self._templates: dict[str, Template] = {}
        self._names = {RESERVED_INPUT: input_name(tasks)} | {output_name(i): task.name for i, task in enumerate(tasks)}

    def model(
        self, module: nn.Module, metadata: Mapping[str, str] | None = None, samples: Sequence[Tensor] = ()
    ) -> onnx.ModelProto:
        """Return the ONNX model of a module.

        The input is ``image`` (`input_name`), float32 pixels in [0, 1] of shape (batch, channels, height, width); each task's
        prediction is an output of the task's name, whatever that is: names inside the model make way for it.

        Args:
            module: Takes the input and returns the tasks' predictions, as a dict by name or in order.
            metadata: Stored in the model's metadata.
            samples: Inputs to compare on besides random ones, each of shape (n, channels, height, width).

        Raises:
            ExportError: Torch cannot export the module, or ONNX Runtime computes something else than torch.
        """
        key = self._key(module)
        try:
            return self._compared(self._template(key, module, former=True), module, metadata, samples)
        except ExportError:
            # What the former exporter lacks or gets wrong, or a graph that does not fit all of its structure.
            own = Template(exported_graph(module, self._input, self._tasks, former=False))
            model = self._compared(own, module, metadata, samples)
            self._templates[key] = own
            self._keep(key, own)
            return model

    def _compared(
        self, template: Template, module: nn.Module, metadata: Mapping[str, str] | None, samples: Sequence[Tensor]
    ) -> onnx.ModelProto:
        model = template.fill(module)
        rename(model, self._names)
        onnx.helper.set_model_props(model, dict(metadata or {}))
        max_differences(model.SerializeToString(), module, self._input, self._tasks, samples, TOLERANCE)
        return model

    def _template(self, key: str, module: nn.Module, former: bool) -> Template:
        found = self._templates.get(key) or self._kept(key)
        if found is None:
            found = Template(exported_graph(module, self._input, self._tasks, former))
            self._keep(key, found)
        self._templates[key] = found
        return found

    def _key(self, module: nn.Module) -> str:
        around = [
            (self._input.channels, self._input.height, self._input.width),
            [task.name for task in self._tasks],
            torch.__version__,
            onnx.__version__,
        ]
        return hashlib.sha256(json.dumps([structure(module), around]).encode()).hexdigest()[:24]

    def _kept(self, key: str) -> Template | None:
        path = self._folder / f"{key}.onnx" if self._folder else None
        if path is None or not path.is_file():
            return None
        return Template(onnx.load(path))

    def _keep(self, key: str, template: Template) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{key}.{os.getpid()}"
        try:
            onnx.save(template.graph, partial)
            partial.replace(self._folder / f"{key}.onnx")
        finally:
            partial.unlink(missing_ok=True)


def to_onnx(
    module: nn.Module, input: InputSpec, path: Path, tasks: Sequence[Task], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a module as one ONNX file, compared with torch, and return `path`. See `Exporter.model`.

    Raises:
        ExportError: Torch cannot export the module, or ONNX Runtime computes something else; nothing is written.
    """
    model = Exporter(input, tasks).model(module, metadata)
    onnx.save(model, path)
    return path


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give inputs and outputs their final names; a value inside the file that has such a name gets another one."""
    graph = model.graph
    inside = {tensor.name for tensor in graph.initializer} | {value for node in graph.node for value in node.output}
    final, taken = dict(names), {*inside, *names.values()}
    for value in sorted(inside - names.keys()):
        if value in names.values():
            final[value] = free = next(name for n in count(1) if (name := f"{value}:{n}") not in taken)
            taken.add(free)
    for node in graph.node:
        node.input[:] = [final.get(value, value) for value in node.input]
        node.output[:] = [final.get(value, value) for value in node.output]
    for item in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        item.name = final.get(item.name, item.name)
