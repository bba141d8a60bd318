"""A candidate as its ONNX file, in the precisions of its policy: what is verified is, byte for byte, what an export gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import ArchConfig, Artifact, JobId, JobSpec, Store, is_fp32, policy_of
from nas.data import MultiTaskData, Split, batches
from nas.export import Exporter, check_file, quantize, run_over
from nas.supernet import MultiTaskNet, SpaceDefinition
from nas.tasks import evaluation_metrics, task_kind
from nas.train.checkpoint import sha256

KIND = "candidate"  # of the artifact
GRAPHS = "graphs"  # folder of the exported graphs, one for each structure of network
BATCH_SIZE = 64
SAMPLES = 4
NO_JOB = "--------"  # as long as the id of a job


class CandidateFiles:
    """Makes the ONNX files of a job's networks.

    Args:
        spec: The job.
        data: Of the job.
        folder: Of the job, called by its id, which is named in the files; graphs that one process exported are kept there for
            the others. None for networks of no job.
    """

    def __init__(self, spec: JobSpec, data: MultiTaskData, folder: Path | None) -> None:
        self._spec, self._data, self._job = spec, data, folder.name if folder else NO_JOB
        self._exporter = Exporter(data.input, data.tasks, folder / GRAPHS if folder else None)

    def content(self, module: MultiTaskNet, arch: ArchConfig) -> bytes:
        """Return the file of a network in the precisions of its policy.

        Before anything is quantized, the file is compared with torch.

        Args:
            module: The network, recalibrated.
            arch: What it is; named in the file, as are the job and the space.

        Raises:
            ExportError: Torch cannot export the module, or the file is not what the module computes.
        """
        model = self._exporter.model(module, self._metadata(arch), self._samples)
        policy = policy_of(arch)
        return model.SerializeToString() if is_fp32(policy) else _quantized(model, arch, self._calibration)

    def untrained(self, module: MultiTaskNet, archs: Sequence[ArchConfig]) -> list[bytes]:
        """Return the files of one network in several precisions, for what does not depend on weights: time, and operators.

        The ranges of activations are those of one image, as they do not matter either.

        Args:
            module: The network.
            archs: The network under several policies.
        """
        model = self._exporter.model(module, self._metadata(archs[0]))
        images = calibration_images(self._data, 1)
        return [model.SerializeToString() if is_fp32(policy_of(arch)) else _quantized(model, arch, images) for arch in archs]

    def _metadata(self, arch: ArchConfig) -> Mapping[str, str]:
        return metadata(self._job, self._spec, arch)

    @cached_property
    def _samples(self) -> list[Tensor]:
        return samples(self._data)

    @cached_property
    def _calibration(self) -> NDArray[np.float32]:
        return calibration_images(self._data, self._spec.quantization.calibration_images)


def metadata(job: str, spec: JobSpec, arch: ArchConfig) -> Mapping[str, str]:
    """Return what is written into a file of what it is."""
    return {"job": job, "space": spec.space.name, "arch": arch.to_json(), "arch_key": arch.key}


def untrained_file(spec: JobSpec, definition: SpaceDefinition, arch: ArchConfig) -> bytes:
    """Return the fp32 file of an architecture of a job that has not begun: as many bytes as the job's own will have."""
    network = definition.build(arch).eval()
    made = Exporter(definition.input, definition.tasks).model(network, metadata(NO_JOB, spec, arch))
    return bytes(made.SerializeToString())


def _quantized(model: onnx.ModelProto, arch: ArchConfig, images: NDArray[np.float32]) -> bytes:
    return bytes(quantize(model, policy_of(arch), images).SerializeToString())


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
    check_file(content, data.tasks)
    return file_metrics(content, data, split)


def samples(data: MultiTaskData) -> list[Tensor]:
    """Return what a file is compared with torch on besides random inputs: the first images of the test split."""
    return [next(batches(data.test, data.tasks, SAMPLES, None))[0]]


def file_metrics(model: Path | bytes, data: MultiTaskData, split: Split) -> dict[str, float]:
    """Return what a file itself achieves under ONNX Runtime on a split, and its size.

    Args:
        model: An ONNX file with one output per task, or its content.
        data: The job's.
        split: Of the data.

    Returns:
        Every metric of every task (``error.TASK``, ``miou.TASK`` and so on) and ``size_bytes``.
    """
    meters = {task.name: task_kind(task.kind).meter() for task in data.tasks}

    def update(outputs: dict[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        for name, meter in meters.items():
            meter.update(outputs[name], targets[name].cpu())

    run_over(model, batches(split, data.tasks, BATCH_SIZE, None), update, threads=torch.get_num_threads())
    metrics: dict[str, float] = {}
    for task in data.tasks:
        metrics |= evaluation_metrics(task, meters[task.name])
    return metrics | {"size_bytes": float(len(model) if isinstance(model, bytes) else model.stat().st_size)}


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
