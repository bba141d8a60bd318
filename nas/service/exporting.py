"""A verified point of a job as a checked file: the weights it was verified with, its own accuracy and latency."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hw_profiles.devices import fingerprint, job_device
from hw_profiles.timing import LatencyMeter
from nas.core import Artifact, Device, Evaluation, ExportError, Fingerprint, JobId, Store, UserError
from nas.core.refinement import has_own_weights, inherited_arch
from nas.core.unforeseen import one_line
from nas.data import MultiTaskData
from nas.export import CardFacts, export_model
from nas.service.candidates import CandidateFiles, file_metrics, kept_file, samples
from nas.service.job_data import stored_data
from nas.service.trust import trusted_spec
from nas.service.workers import CHECKPOINT, job_definition, job_evaluator
from nas.supernet import MultiTaskNet
from nas.tasks import task_kind
from nas.train.checkpoint import sha256
from nas.train.finetune import load_refined

REFINED = "refined"  # of the artifact: weights of one network
ERROR_TOLERANCE = 0.005  # relative, of each task's error: the file against what was verified
LATENCY_TOLERANCE = 0.10  # relative; a file that is faster than what was verified promised too little
LATENCY_ATTEMPTS = 5


def export_arch(store: Store, job: JobId, row: Evaluation, out: Path | None) -> Path:
    """Write the ONNX file of a verified evaluation and its card; record them; return the file's path.

    The file is the one that was verified; where that is gone, or was made by an earlier version, it is made again.

    Args:
        store: Holds the job.
        job: Its id.
        row: What was verified.
        out: A file ending in ``.onnx``, or a folder; None means ``exports`` in the job's folder.

    Raises:
        ExportError: The file differs from torch, or its accuracy or latency from what was verified. No file is left.
    """
    spec, folder = trusted_spec(store, job), store.folder(job)
    target, name = place_of(out, folder / "exports", row.arch.key)
    data = stored_data(store, job)
    module = _module(store, job, row, data).cpu()
    device = job_device(spec, spec.devices[0])
    measured_on = _measured_on(store, job, row, device)
    here = device.resource is None and measured_on == fingerprint(device)
    metric = f"latency_ms@{device.name}"

    def measure(path: Path) -> Mapping[str, float]:
        """Return the file's own metrics, once they are those that were verified."""
        measured = file_metrics(path, data, data.test)
        for task in data.tasks:
            error = f"error.{task.name}"
            own, verified = measured[error], row.metrics[error]
            same = abs(own - verified) <= ERROR_TOLERANCE * max(abs(verified), 1e-9)  # False where one is no number
            if not same and not (math.isnan(own) and math.isnan(verified)):
                raise _lost(error, own, verified, ERROR_TOLERANCE)
        if here and measured_on is not None:
            reference_ms = store.reference_ms(device.name, measured_on.key, LatencyMeter(device).calibrate())
            meter = LatencyMeter(device, reference_ms)
            at_most = row.metrics[metric] * (1 + LATENCY_TOLERANCE)
            for _ in range(LATENCY_ATTEMPTS):
                measured[metric] = meter.measure_thoroughly(path).ms
                if measured[metric] <= at_most:
                    break
            else:
                remedy = "; if the machine was busy, try again"
                raise _lost(metric, measured[metric], row.metrics[metric], LATENCY_TOLERANCE, remedy)
        return measured

    units = {m.name: m.unit for task in data.tasks for m in task_kind(task.kind).metrics}
    facts = CardFacts(
        job=job,
        space=spec.space.name,
        arch=row.arch,
        input=data.input,
        tasks=data.tasks,
        metrics=row.metrics,
        units=units,
        data=data.name,
        split=row.split,
        device=device.name,
        fingerprint=measured_on,
        checkpoint=row.checkpoint,
        seed=row.seed,
    )
    content = kept_file(store, job, row.arch) or CandidateFiles(spec, data, folder).content(module, row.arch)
    made = export_model(module, facts, target, name, samples(data), measure, content)
    if store.writable:  # or it is somebody else's, and keeps no record of what others take from it
        store.add_artifact(job, Artifact("onnx", made.onnx, sha256(made.onnx), row.arch.key))
        store.add_artifact(job, Artifact("card", made.json, sha256(made.json), row.arch.key))
        store.add_artifact(job, Artifact("card", made.markdown, sha256(made.markdown), row.arch.key))
    return made.onnx


def place_of(out: Path | None, usual: Path, key: str) -> tuple[Path, str]:
    """Return the folder of an export, which exists, and the name of its files.

    Args:
        out: What was asked for: a file ending in ``.onnx``, or a folder; a folder that exists is one, whatever it is called.
        usual: The folder where nothing was asked for.
        key: The name where none was asked for.

    Raises:
        UserError: There is a file where the folder should be, or the folder cannot be made or written.
    """
    out = usual if out is None else out.expanduser()
    is_file = out.suffix.lower() == ".onnx" and not out.is_dir()
    folder, name = (out.parent, out.stem) if is_file else (out, key)
    try:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"an export is written as NAME.onnx or into a folder of yours: {out} cannot be ({one_line(error)}); "
            "name another --out"
        ) from None
    taken = next((path for path in (folder / f"{name}{end}" for end in (".onnx", ".json", ".md")) if path.is_dir()), None)
    if taken is not None:
        raise UserError(f"an export is three files: {taken} is a folder; name another --out")
    return folder, name


def _measured_on(store: Store, job: JobId, row: Evaluation, device: Device) -> Fingerprint | None:
    """Return what the latency of an evaluation was measured on; None where it has none, or nothing tells."""
    keys = (row.device or "").split(",")
    if f"latency_ms@{device.name}" not in row.metrics:
        return None
    seen = [profile.fingerprint for profile in store.profiles(job) if profile.device == device.name]
    if device.resource is None:
        seen.append(fingerprint(device))
    return next((each for each in reversed(seen) if each.key in keys), None)


def _module(store: Store, job: JobId, row: Evaluation, data: MultiTaskData) -> MultiTaskNet:
    """Return the network of a verified evaluation with the weights it was verified with: the supernet's, or its own."""
    spec, folder = trusted_spec(store, job), store.folder(job)
    own = has_own_weights(row.arch)
    files = [artifact.path for artifact in store.artifacts(job, REFINED, row.arch.key)] if own else [folder / CHECKPOINT]
    for path in files:
        if row.checkpoint is None or (path.is_file() and sha256(path).startswith(row.checkpoint)):
            if own:
                return load_refined(path, job_definition(spec, data))[0]
            return job_evaluator(spec, folder, data).module(row.arch)
    again = f"nas finetune {job} --arch {inherited_arch(row.arch).key}" if own else "run the job"
    raise ExportError(
        f"an export takes the weights that were verified: {files[0] if files else row.arch.key} is not {row.checkpoint} any "
        f"more; {again} again"
    )


def _lost(metric: str, measured: float, verified: float, tolerance: float, remedy: str = "") -> ExportError:
    return ExportError(
        f"an exported file keeps what was verified within {tolerance:.1%}: its {metric} is {measured:.5g}, and "
        f"{verified:.5g} was verified{remedy}"
    )
