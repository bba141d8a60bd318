"""A candidate as its ONNX file, in the precisions of its policy: what is verified is, byte for byte, what an export gives."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import ArchConfig, Artifact, JobId, JobSpec, Store, is_fp32, policy_of
from nas.data import MultiTaskData, Split, batches
from nas.export import check_file, max_differences, quantize, run_over, to_onnx, weight_bytes
from nas.supernet import MultiTaskNet
from nas.tasks import evaluation_metrics, task_kind
from nas.train.checkpoint import sha256

KIND = "candidate"  # of the artifact
BATCH_SIZE = 64
SAMPLES = 4


def candidate_file(
    module: MultiTaskNet, arch: ArchConfig, job: JobId, spec: JobSpec, data: MultiTaskData, fast: bool = False
) -> bytes:
    """Return the ONNX file of a subnet in the precisions of its policy.

    Before anything is quantized, a file with an open batch is compared with torch.

    Args:
        module: The subnet, recalibrated.
        arch: What it is.
        job: Whose it is; named in the file, as are the space and the architecture.
        spec: Of the job.
        data: Of the job.
        fast: Fix the batch to one image, which torch exports in a tenth of the time, and compare nothing: for candidates of
            a search. The file computes and takes what the other one does.

    Raises:
        ExportError: Torch cannot export the module, or the file is not what the module computes.
    """
    metadata = {"job": job, "space": spec.space.name, "arch": arch.to_json(), "arch_key": arch.key}
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        path = to_onnx(module, data.input, Path(folder) / "model.onnx", data.tasks, metadata, fast=fast)
        if not fast:
            max_differences(path, module, data.input, data.tasks, samples(data))
        content = path.read_bytes()
    policy = policy_of(arch)
    if is_fp32(policy):
        return content
    images = calibration_images(data, spec.quantization.calibration_images)
    return bytes(quantize(onnx.load_from_string(content), policy, images).SerializeToString())


def calibration_images(data: MultiTaskData, count: int) -> NDArray[np.float32]:
    """Return training images, evenly spread over the split, shape (n, channels, height, width)."""
    count = min(count, len(data.train))
    chosen = data.train.subset([i * len(data.train) // count for i in range(count)])
    return np.concatenate([pixels.cpu().float().numpy() for pixels, _ in batches(chosen, data.tasks, BATCH_SIZE, None)])


def checked_metrics(content: bytes, data: MultiTaskData, split: Split) -> dict[str, float]:
    """Return what `file_metrics` measures of a file, once it has passed onnx's checks.

    Raises:
        ExportError: It is not valid ONNX.
    """
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        check_file(path, data.tasks)
        return file_metrics(path, data, split)


def samples(data: MultiTaskData) -> list[Tensor]:
    """Return what a file is compared with torch on besides random inputs: the first images of the test split."""
    return [next(batches(data.test, data.tasks, SAMPLES, None))[0]]


def file_metrics(path: Path, data: MultiTaskData, split: Split) -> dict[str, float]:
    """Return what a file itself achieves under ONNX Runtime on a split, and the bytes of its weights.

    Args:
        path: An ONNX file with one output per task.
        data: The job's.
        split: Of the data.

    Returns:
        Every metric of every task (``error.TASK``, ``miou.TASK`` and so on) and ``size_bytes``.
    """
    meters = {task.name: task_kind(task.kind).meter() for task in data.tasks}

    def update(outputs: dict[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        for name, meter in meters.items():
            meter.update(outputs[name], targets[name].cpu())

    size = fixed_batch(path) or BATCH_SIZE
    run_over(path, batches(split, data.tasks, size, None), update, threads=torch.get_num_threads())
    metrics: dict[str, float] = {}
    for task in data.tasks:
        metrics |= evaluation_metrics(task, meters[task.name])
    return metrics | {"size_bytes": float(weight_bytes(path))}


def fixed_batch(path: Path) -> int | None:
    """Return the batch that a file is fixed to, or None where it takes any."""
    batch = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
    return batch.dim_value or None


def keep_file(store: Store, job: JobId, arch: ArchConfig, content: bytes) -> Path:
    """Write a verified file into the job's folder, for later exports, and return its path."""
    path = store.folder(job) / "candidates" / f"{arch.key}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    store.add_artifact(job, Artifact(KIND, path, sha256(path), arch.key))
    return path


def kept_file(store: Store, job: JobId, arch: ArchConfig) -> bytes | None:
    """Return the file that was verified, or None where it is not there any more as it was."""
    for artifact in store.artifacts(job, KIND, arch.key):
        if artifact.path.is_file() and sha256(artifact.path) == artifact.sha256:
            return artifact.path.read_bytes()
    return None
