"""The graph of a torch module as torch exports it: batch norms kept, parameters by name, nodes by the path of their module."""

from __future__ import annotations

import ast
import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import quote, unquote

import numpy as np
import onnx
import torch
from onnx import numpy_helper, shape_inference
from torch import Tensor, nn

from nas.core import ExportError, InputSpec, Task

OPSET = 20
INPUT_NAME = "image"
BATCH = "batch"  # name of the dynamic dimension; a session may fix it (`check.open_session`)
RESERVED = "@"  # begins the names of inputs and outputs while a file is made: no module and no operator has such a name
RESERVED_INPUT = f"{RESERVED}input"
PATH_MARK = ":"  # stands for the dots of a module's path in the former exporter's scopes, which keep nothing before a dot
SCOPES = "pkg.torch.onnx.name_scopes"  # where the other exporter notes a node's scopes, outermost first, the node's own last


class OutputsInOrder(nn.Module):
    """Turns a module's predictions by task into a tuple, which is what an exporter can name.

    Args:
        module: Returns a dict from task to prediction, or a sequence in the order of the tasks.
        tasks: Names of the outputs.

    Attributes:
        outputs: Reserved names of the outputs, for the exporter.
    """

    def __init__(self, module: nn.Module, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.module, self.tasks = module, tuple(tasks)
        self.names = [task.name for task in tasks]
        self.outputs = [output_name(index) for index in range(len(tasks))]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the predictions in the order of the tasks."""
        predictions = self.module(image)
        if isinstance(predictions, Tensor):
            return (predictions,)
        if isinstance(predictions, Mapping):
            return tuple(predictions[name] for name in self.names)
        return tuple(predictions)


class ScopedByPath(OutputsInOrder):
    """The same for the former exporter, whose scopes are then whole paths: it asks the outermost module for all names.

    A path is quoted, as scopes are parted by slashes and a task's decoder may be called ``fine/grain``.
    """

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield every module under its path with another mark in place of the dots."""
        for name, module in super().named_modules(memo, prefix, remove_duplicate):
            yield quote(name, safe=".").replace(".", PATH_MARK), module


def output_name(index: int) -> str:
    """Return the reserved name of the output of a task, by its place among the tasks."""
    return f"{RESERVED}output:{index}"


def input_name(tasks: Iterable[Task]) -> str:
    """Return what the input of a file is called: ``image``, with underscores behind where a task is called so."""
    names, name = {task.name for task in tasks}, INPUT_NAME
    while name in names:
        name += "_"
    return name


def plain_copy(module: nn.Module, tasks: Sequence[Task]) -> OutputsInOrder:
    """Return a copy of the module for export: on the CPU, in eval mode; the module itself stays as it is."""
    return OutputsInOrder(copy.deepcopy(module).cpu().float(), tasks).eval()


def exported_graph(module: nn.Module, input: InputSpec, tasks: Sequence[Task], former: bool) -> onnx.ModelProto:
    """Return the graph of a module with an open batch and without its parameters' values.

    Parameters and buffers are called ``module.NAME`` after the module's own, inputs and outputs have reserved names
    (`RESERVED_INPUT`, `OutputsInOrder.outputs`), and a node is named after the module that it comes from:
    ``stages.0.1.conv2.0/Conv``. The graph holds no trace of where it was made.

    Args:
        module: Takes the input and returns the tasks' predictions, as a dict by name or in order.
        input: Shape of the input.
        tasks: Name the outputs.
        former: Use torch's former exporter, which is several times faster and lacks some operators.

    Raises:
        ExportError: Torch cannot export the module.
    """
    copied = plain_copy(module, tasks)
    _tell_apart(copied)
    example = torch.zeros(2, input.channels, input.height, input.width)
    try:
        with _quiet(), torch.no_grad():
            copied(example)  # what the module itself raises is clearer before it is traced
            model = _by_former(copied, example) if former else _by_current(copied, example)
    except Exception as error:  # whatever the exporter or the module's own forward raises
        raise ExportError(f"torch exports what it can run and trace: this module gave {_root_cause(error)}") from error
    _without_identities(model)
    _name_nodes(model)
    _strip(model)
    model = _resize_by_scales(model)
    own = _parameter_names(copied)
    stored = [tensor for tensor in model.graph.initializer if tensor.name not in own]
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(stored)
    model.graph.ClearField("value_info")  # its shapes are those of this module's widths
    return model


def _by_current(module: OutputsInOrder, example: Tensor) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        input_names=[RESERVED_INPUT],
        output_names=module.outputs,
        dynamic_shapes={"image": {0: torch.export.Dim(BATCH)}},
        opset_version=OPSET,
        external_data=False,
        verbose=False,
        optimize=False,
    )
    assert program is not None
    return _optimized(program.model_proto, _parameter_names(module))


def _optimized(model: onnx.ModelProto, parameters: set[str]) -> onnx.ModelProto:
    """Simplify what the current exporter writes; parameters are unknown inputs meanwhile, so nothing is computed from them."""
    from onnxscript import optimizer

    graph = model.graph
    own = [tensor for tensor in graph.initializer if tensor.name in parameters]
    others = [tensor for tensor in graph.initializer if tensor.name not in parameters]
    graph.ClearField("initializer")
    graph.initializer.extend(others)
    graph.input.extend(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in own)
    simpler = optimizer.optimize(model)
    images = [value for value in simpler.graph.input if value.name not in parameters]
    simpler.graph.ClearField("input")
    simpler.graph.input.extend(images)
    simpler.graph.initializer.extend(own)
    return simpler


def _by_former(module: OutputsInOrder, example: Tensor) -> onnx.ModelProto:
    content, log = io.BytesIO(), torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *parts: None  # or it prints the graph where it fails
    try:
        torch.onnx.export(
            ScopedByPath(module.module, module.tasks).eval(),
            (example,),
            content,  # type: ignore[arg-type]  # any file to write to
            dynamo=False,
            input_names=[RESERVED_INPUT],
            output_names=module.outputs,
            dynamic_axes={name: {0: BATCH} for name in (RESERVED_INPUT, *module.outputs)},
            opset_version=OPSET,
            do_constant_folding=False,
        )
    finally:
        torch._C._jit_onnx_log = log
    return onnx.load_from_string(content.getvalue())


def _parameter_names(module: OutputsInOrder) -> set[str]:
    """Return what the exporters call the parameters and the buffers of a module."""
    return {*dict(module.named_parameters(remove_duplicate=False)), *dict(module.named_buffers(remove_duplicate=False))}


def _tell_apart(module: nn.Module) -> None:
    """Give parameters and statistics values of their own: the former exporter stores equal ones once, under one name."""
    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    statistics = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
    with torch.no_grad():
        for tensor in [*module.parameters(), *statistics]:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    reason = str(error).strip().splitlines()
    return f"{type(error).__name__}: {reason[0]}" if reason else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say of themselves: the former one is deprecated, the other misses torchvision."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using the legacy TorchScript", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _without_identities(model: onnx.ModelProto) -> None:
    """Read what an Identity reads instead of what it makes, unless that is an output."""
    outputs = {value.name for value in model.graph.output}
    same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.output[0] not in outputs}
    for value in same:
        while same[value] in same:
            same[value] = same[same[value]]
    nodes = [node for node in model.graph.node if not node.output or node.output[0] not in same]
    for node in nodes:
        node.input[:] = [same.get(value, value) for value in node.input]
    kept = [copy.deepcopy(node) for node in nodes]
    model.graph.ClearField("node")
    model.graph.node.extend(kept)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name nodes, and the values that they make, ``PATH/OPERATOR`` by the path of their module."""
    kept = {value.name for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]}
    taken: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        name = f"{_module_path(node)}/{node.op_type}"
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name] - 1}"
        for index, value in enumerate(node.output):
            if value and value not in kept:
                renamed[value] = f"{node.name}:{index}"
    for node in model.graph.node:
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for value in model.graph.value_info:
        value.name = renamed.get(value.name, value.name)


def _module_path(node: onnx.NodeProto) -> str:
    """Return the path of the module that a node comes from; an empty string for the outermost one's own."""
    notes = {note.key: note.value for note in node.metadata_props}
    if SCOPES in notes:
        scope = "".join(ast.literal_eval(notes[SCOPES])[-2:-1])
    else:
        scope = unquote(node.name.rpartition("/")[0].rpartition("/")[2].replace(PATH_MARK, "."))
    return scope.removeprefix("module").removeprefix(".")


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on each node, which quote source lines with the paths of the machine."""
    model.ClearField("doc_string")
    model.graph.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    for item in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def _resize_by_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every Resize by whole factors constant scales instead of sizes computed from the batch.

    ONNX Runtime then keeps its blocked layout through a decoder with a dynamic batch too, which takes a fifth off its time.
    """
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    graph = inferred.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]  # 0 where it is not known
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Resize" or len(node.input) < 4:
            continue
        before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
        if len(before) != 4 or len(after) != 4 or not all(before[1:] + after[1:]):
            continue
        if before[1] != after[1] or after[2] % before[2] or after[3] % before[3]:
            continue
        scales = np.array([1, 1, after[2] // before[2], after[3] // before[3]], dtype=np.float32)
        name = f"resize_{index}_scales"
        model.graph.initializer.append(numpy_helper.from_array(scales, name))
        node.input[2:] = [name]
    _drop_unused(model)
    return model


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and initializers whose outputs nothing reads."""
    while True:
        read = {name for node in model.graph.node for name in node.input} | {output.name for output in model.graph.output}
        idle = [node for node in model.graph.node if not read.intersection(node.output)]
        for node in idle:
            model.graph.node.remove(node)
        if not idle:
            break
    for initializer in [item for item in model.graph.initializer if item.name not in read]:
        model.graph.initializer.remove(initializer)
    named = read | {name for node in model.graph.node for name in node.output}
    for value in [item for item in model.graph.value_info if item.name not in named]:
        model.graph.value_info.remove(value)
