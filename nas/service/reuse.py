"""A job that takes the trained supernet of another one: what has to be the same, and what is taken over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core import Evaluation, JobId, JobRecord, JobSpec, Stage, StageState, Store, UserError
from nas.train.checkpoint import sha256

REUSED = "reused"  # the stage of an evaluation that a former job made


def adopt(store: Store, spec: JobSpec) -> JobSpec:
    """Return `spec` with the recipe and the full id of the job whose supernet it reuses; unchanged where it reuses none.

    Raises:
        NotFoundError: There is no such job.
        UserError: Its supernet is not trained, or is not one for this job; the message names the difference.
    """
    if spec.training.reuse is None:
        return spec
    former = store.job(spec.training.reuse)
    if store.stages(former.id)[Stage.TRAIN].state is not StageState.DONE:
        raise UserError(
            f"a supernet that is reused is trained: that of job {former.id} is not ({former.state}); nas resume {former.id}"
        )
    for what, ours, theirs in _must_agree(spec, former):
        if ours != theirs:
            raise UserError(
                f"a supernet is reused for the same space, tasks, data and seed: {what} is {ours!r} here and {theirs!r} in job "
                f"{former.id}; write {theirs!r}, or train anew without training.reuse"
            )
    own = spec.training
    recipe = replace(former.spec.training, twins=own.twins, device=own.device, reuse=former.id)
    return replace(spec, training=recipe)


def take_checkpoint(store: Store, former: JobId, name: str, folder: Path) -> tuple[Path, str]:
    """Put the former job's checkpoint into a job's folder and return its path and its SHA-256.

    Raises:
        UserError: It is gone, or is not the one that was trained.
    """
    source, target = store.folder(former) / name, folder / name
    trained = store.stages(former)[Stage.TRAIN].result.get("checkpoint")
    digest = sha256(source) if source.is_file() else ""
    if not trained or not digest.startswith(trained):
        state = "is gone" if not digest else f"is not {trained} any more"
        raise UserError(f"a supernet that is reused is as it was trained: {source} {state}; train anew without training.reuse")
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    return target, digest


def former_evaluations(store: Store, former: JobId, spec: JobSpec, checkpoint: str | None) -> list[Evaluation]:
    """Return what a former search measured of the same weights in the same way, its own reused rows included."""
    if store.job(former).spec.search.calibration_images != spec.search.calibration_images:
        return []
    rows = [row for row in store.evaluations(former) if row.stage in ("search", REUSED)]
    return [row for row in rows if checkpoint is not None and row.checkpoint == checkpoint]


def without_predictions(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without those that depend on the job: predicted latencies, and Δm."""
    return {name: value for name, value in metrics.items() if "@" not in name and name != "delta_m"}


def _must_agree(spec: JobSpec, former: JobRecord) -> Iterator[tuple[str, Any, Any]]:
    ours, theirs = spec, former.spec
    yield "space.name", ours.space.name, theirs.space.name
    yield from _options("space.options", ours.space.options, theirs.space.options)
    yield "tasks", [task.name for task in ours.tasks], [task.name for task in theirs.tasks]
    yield "data.name", ours.data.name, theirs.data.name
    yield "data.path", ours.data.path, theirs.data.path
    yield from _options("data.options", ours.data.options, theirs.data.options)
    yield "data.val_fraction", ours.data.val_fraction, theirs.data.val_fraction
    yield "seed", ours.seed, theirs.seed  # it draws the images that are held out


def _options(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*ours, *theirs}):
        yield f"{what}.{name}", ours.get(name), theirs.get(name)
