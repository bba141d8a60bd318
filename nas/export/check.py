"""Does an ONNX file compute what the module computes, and how well?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nas.core import ExportError, InputSpec, Task
from nas.export.traced import BATCH, input_name, plain_copy

TOLERANCE = 1e-4  # of |onnx - torch| / max(1, |torch|)
BATCHES = (1, 3)

Targets = TypeVar("Targets")


def open_session(model: Path | bytes, threads: int = 1, batch: int | None = None) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Args:
        model: The file, or its content.
        threads: Intra-operator threads.
        batch: Fix the dynamic batch, which lets ONNX Runtime plan the graph for it (up to a quarter faster).

    Raises:
        ExportError: ONNX Runtime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise ExportError(f"ONNX Runtime runs an exported file: it gave {' '.join(str(error).split())[:300]}") from error


def check_file(model: Path | bytes, tasks: Sequence[Task]) -> None:
    """Check that a file, or its content, is valid ONNX whose outputs are the tasks.

    Raises:
        ExportError: It is not; the message is that of onnx's checker, or names the outputs.
    """
    try:
        onnx.checker.check_model(model if isinstance(model, bytes) else str(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"an exported file passes onnx's checker: {str(error).strip()}") from error
    outputs = [output.name for output in open_session(model).get_outputs()]
    if outputs != [task.name for task in tasks]:
        raise ExportError(f"the outputs are the tasks {[task.name for task in tasks]}: the file has {outputs}")


def max_differences(
    model: Path | bytes,
    module: nn.Module,
    input: InputSpec,
    tasks: Sequence[Task],
    samples: Sequence[Tensor] = (),
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Return each output's largest difference between ONNX Runtime and torch, over random and given inputs.

    Args:
        model: The file, or its content.
        module: What it was exported from.
        input: Shape of the random inputs, in batches of one and of three.
        tasks: Names of the outputs.
        samples: More inputs, each float32 pixels in [0, 1] of shape (n, channels, height, width).
        tolerance: Of |onnx - torch| / max(1, |torch|); infinite for a quantized file, whose own accuracy is what counts.

    Returns:
        Task to max |onnx - torch|.

    Raises:
        ExportError: A shape differs, a value is not finite, or |onnx - torch| / max(1, |torch|) exceeds `tolerance`.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (input.channels, input.height, input.width)
    inputs = [torch.rand(batch, *shape, generator=generator) for batch in BATCHES] + [sample.cpu() for sample in samples]
    session, plain = open_session(model), plain_copy(module, tasks)
    differences = dict.fromkeys((task.name for task in tasks), 0.0)
    for pixels in inputs:
        with torch.no_grad():
            expected = [output.numpy() for output in plain(pixels)]
        try:
            found = session.run([task.name for task in tasks], {input_name(tasks): pixels.numpy()})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            reason = str(error).strip().replace("\n", " ")
            raise ExportError(f"ONNX Runtime runs the file with any batch: {len(pixels)} gave {reason}") from error
        for task, ours, theirs in zip(tasks, found, expected, strict=True):
            if ours.shape != theirs.shape:
                raise ExportError(
                    f"ONNX Runtime gives torch's shape: output {task.name} is {ours.shape} instead of {theirs.shape}"
                )
            apart = np.abs(ours - theirs)
            relative = float((apart / np.maximum(1.0, np.abs(theirs))).max())
            if not relative <= tolerance:  # also where it is NaN
                raise ExportError(
                    f"ONNX Runtime equals torch within {tolerance:g} of max(1, |torch|): "
                    f"output {task.name} is {relative:.3g} apart"
                )
            differences[task.name] = max(differences[task.name], float(apart.max()))
    return differences


def weight_bytes(model: Path | onnx.ModelProto) -> int:
    """Return the bytes of a file's weights: of every initializer, at its own precision."""
    weights = (onnx.load(model) if isinstance(model, Path) else model).graph.initializer
    return sum(len(tensor.raw_data) or numpy_helper.to_array(tensor).nbytes for tensor in weights)


def run_over(
    model: Path | bytes,
    batches: Iterable[tuple[Tensor, Targets]],
    update: Callable[[dict[str, Tensor], Targets], None],
    threads: int = 1,
) -> None:
    """Run a file over a data split and hand each batch's predictions on, so that its own accuracy can be measured.

    Args:
        model: The file, or its content.
        batches: Pixels of shape (n, channels, height, width) with their targets.
        update: Is given the predictions by output name, and the targets.
        threads: Intra-operator threads.
    """
    session = open_session(model, threads)
    (image,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    for pixels, targets in batches:
        found = session.run(names, {image.name: pixels.cpu().float().numpy()})
        update({name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}, targets)
