"""Find trees of tasks by relaxed searches, one per strength of the cost of sharing; the search stage begins with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hw_profiles.devices import job_device
from nas.core import ArchConfig, Artifact, FloatArray, Stage, UserError
from nas.core.branching import Partition
from nas.core.json_text import to_json
from nas.service.affinity import measured
from nas.service.context import JobContext
from nas.service.executors import Worker
from nas.service.gpus import gpu_share
from nas.service.latency_features import Vectorised
from nas.service.pool import Pool, reason
from nas.service.precisions import as_searched
from nas.service.sharing import SharingWorker
from nas.service.stages.fit import latency_functions
from nas.service.workers import job_definition
from nas.supernet import Branching, SpaceDefinition
from nas.train.affinity import initial_alpha
from nas.train.bilevel import SharingEpoch
from nas.train.checkpoint import sha256

KIND = "tree-search"  # of the artifact, whose key is the strength
LEAST_COST = 0.01  # of a layer, as a share of the mean: a predictor of latency may say less than nothing of one
Tree = tuple[Partition, ...]


def differentiable(context: JobContext, searched: SpaceDefinition) -> list[ArchConfig]:
    """Return the trees that relaxed searches derive, at full widths, as `searched` names them; none for other samplers.

    The last tree of each strength comes first, then those of earlier and earlier epochs, which lie between what is shared and
    what is not. They are at most half of the candidates, so that widths are searched too (ours).
    """
    spec = context.spec
    if spec.search.sampler != "differentiable":
        return []
    definition = job_definition(spec, context.data)
    if not isinstance(definition, Branching):
        raise UserError(f"a differentiable search is of a space whose tasks part: {spec.space.name!r} is none; use branched")
    runs = _runs(context, definition)
    backwards = dict.fromkeys(tree for epoch in zip(*map(reversed, runs), strict=True) for tree in epoch)
    archs = [arch for tree in backwards if (arch := as_searched(searched, definition.arch_of(tree)))]
    return archs[: max(1, spec.search.evaluations // 2)]


def layer_costs(definition: Branching, latency: Vectorised | None = None) -> FloatArray:
    """Return what one full-width branch costs in each layer, shape (layers,).

    Args:
        definition: The space.
        latency: Predicts milliseconds. A branch costs what a network whose tasks part before its layer takes longer than one
            whose tasks part after it, per branch that it has more (ours). None counts multiply-accumulates.
    """
    if latency is None:
        return definition.layer_macs()
    names = tuple(task.name for task in definition.tasks)
    together, apart = (names,), tuple((name,) for name in names)
    parting = [[together] * layer + [apart] * (definition.layers - layer) for layer in range(definition.layers + 1)]
    ms = latency([definition.arch_of(tree) for tree in parting])
    costs = (ms[:-1] - ms[1:]) / (len(names) - 1)
    return np.asarray(np.maximum(costs, LEAST_COST * np.abs(costs).mean()))


def _runs(context: JobContext, definition: Branching) -> list[list[Tree]]:
    """Return each strength's tree after each epoch.

    What a strength gave is committed as it comes: a driver that goes on searches only the strengths that are left.
    """
    store, job, strengths = context.store, context.job, context.spec.search.differentiable.strengths
    done = {strength: trees for strength in strengths if (trees := _kept(context, strength))}
    left = [strength for strength in strengths if strength not in done]
    failures: list[str] = []
    pool = Pool(_maker(context, definition), context.spec.search.workers, context.check) if left else None
    try:
        _progress(context, len(done))
        for strength, epochs in pool.run("search", left) if pool else ():
            if isinstance(epochs, Exception):
                failures.append(reason(epochs))
                store.log(job, f"a relaxed search of strength {strength:g} failed: {failures[-1]}", "warning")
                continue
            _keep(context, strength, epochs)
            done[strength] = [epoch.tree for epoch in epochs]
            facts = f"{_line(epochs[-1].tree)}, {epochs[-1].cost:.2f} times a shared encoder expected"
            store.log(job, f"strength {strength:g}: {facts}")
            _progress(context, len(done))
    finally:
        if pool:
            pool.close()
    if not done:
        raise UserError(f"a differentiable search needs a strength that works: none did, the first with: {failures[0]}")
    return [done[strength] for strength in strengths if strength in done]


def _maker(context: JobContext, definition: Branching) -> Callable[[], Worker]:
    """Return what makes a worker that searches trees."""
    spec, executor = context.spec, context.executor
    options = spec.search.differentiable
    device = f"latency_ms@{job_device(spec, spec.devices[0]).name}"
    costs = layer_costs(definition, latency_functions(context)[device] if options.resource == "latency" else None)
    initial = initial_alpha(measured(context).affinity) if options.start == "affinity" else None
    workers = min(spec.search.workers, len(options.strengths)) if executor.concurrent else 1
    gpus = gpu_share(executor, spec.training, workers)
    threads = max(1, executor.cores // workers)
    return lambda: executor.worker(
        SharingWorker, spec, context.folder, costs, initial, threads, cpus=executor.cores / workers, gpus=gpus
    )


def _progress(context: JobContext, done: int) -> None:
    search = context.spec.search
    note = f"trees: {done} of {len(search.differentiable.strengths)} strengths searched"
    rows = len(context.store.evaluations(context.job, "search"))
    context.store.progress(context.job, Stage.SEARCH, rows, search.evaluations, "candidates", note)


def _path(context: JobContext, strength: float) -> Path:
    return context.folder / f"{KIND}-{strength!r}.json"


def _keep(context: JobContext, strength: float, epochs: Sequence[SharingEpoch]) -> None:
    path = _path(context, strength)
    partial = path.with_suffix(".partial")
    partial.write_text(to_json([asdict(epoch) for epoch in epochs]), encoding="utf-8")
    partial.replace(path)
    for number, epoch in enumerate(epochs, 1):
        context.add_curves(number, {f"sharing_cost.{strength:g}": epoch.cost})
    context.store.add_artifact(context.job, Artifact(KIND, path, sha256(path), repr(strength)))


def _kept(context: JobContext, strength: float) -> list[Tree]:
    """Return the trees of a strength that was searched; none where it was not, or its file is not as it was written."""
    for artifact in context.store.artifacts(context.job, KIND, repr(strength)):
        if artifact.path.is_file() and sha256(artifact.path) == artifact.sha256:
            epochs = json.loads(artifact.path.read_text(encoding="utf-8"))
            return [tuple(tuple(tuple(block) for block in layer) for layer in epoch["tree"]) for epoch in epochs]
    return []


def _line(tree: Tree) -> str:
    return ", ".join(f"layer {i}: " + " | ".join("+".join(block) for block in layer) for i, layer in enumerate(tree))
