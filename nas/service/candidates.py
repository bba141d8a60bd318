"""A candidate as the file that is handed out: what is verified is, byte for byte, what an export gives."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nas.core import ArchConfig, Artifact, JobId, JobSpec, Store
from nas.data import MultiTaskData, batches
from nas.export import check_file, max_differences, run_over, to_onnx, weight_bytes
from nas.supernet import MultiTaskNet
from nas.tasks import evaluation_metrics, task_kind
from nas.train.checkpoint import sha256

KIND = "candidate"  # of the artifact
BATCH_SIZE = 64
SAMPLES = 4


def candidate_file(module: MultiTaskNet, arch: ArchConfig, job: JobId, spec: JobSpec, data: MultiTaskData) -> bytes:
    """Return the ONNX file of a subnet; its batch is open.

    Args:
        module: The subnet, recalibrated.
        arch: What it is.
        job: Whose it is; named in the file, as are the space and the architecture.
        spec: Of the job.
        data: Of the job.

    Raises:
        ExportError: Torch cannot export the module.
    """
    metadata = {"job": job, "space": spec.space.name, "arch": arch.to_json(), "arch_key": arch.key}
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        return to_onnx(module, data.input, Path(folder) / "model.onnx", data.tasks, metadata).read_bytes()


def checked_metrics(content: bytes, module: MultiTaskNet, data: MultiTaskData) -> dict[str, float]:
    """Return what `file_metrics` measures of a file that was made of `module`, once it has passed an export's checks.

    Raises:
        ExportError: It is not valid ONNX, or not what the module computes.
    """
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        check_file(path, data.tasks)
        max_differences(path, module, data.input, data.tasks, samples(data))
        return file_metrics(path, data)


def samples(data: MultiTaskData) -> list[Tensor]:
    """Return what a file is compared with torch on besides random inputs: the first images of the test split."""
    return [next(batches(data.test, data.tasks, SAMPLES, None))[0]]


def file_metrics(path: Path, data: MultiTaskData) -> dict[str, float]:
    """Return what a file itself achieves under ONNX Runtime on the test split, and the bytes of its weights.

    Args:
        path: An ONNX file with one output per task.
        data: The job's.

    Returns:
        Every metric of every task (``error.TASK``, ``miou.TASK`` and so on) and ``size_bytes``.
    """
    meters = {task.name: task_kind(task.kind).meter() for task in data.tasks}

    def update(outputs: dict[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        for name, meter in meters.items():
            meter.update(outputs[name], targets[name].cpu())

    run_over(path, batches(data.test, data.tasks, BATCH_SIZE, None), update, threads=torch.get_num_threads())
    metrics: dict[str, float] = {}
    for task in data.tasks:
        metrics |= evaluation_metrics(task, meters[task.name])
    return metrics | {"size_bytes": float(weight_bytes(path))}


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
