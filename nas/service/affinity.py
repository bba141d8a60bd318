"""How alike a job's tasks are: measured once from its trained weights, kept in its folder, and where a search may begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.core import ArchConfig, Artifact, JobId, JobSpec, NotFoundError, Stage, StageState, Store, UserError
from nas.core.affinity import AFFINITY, Affinity, Tree, stored_affinity
from nas.core.branching import branching_picks
from nas.data import batches, load_data
from nas.service.context import JobContext
from nas.service.gpus import gpu_share
from nas.service.job_data import job_data
from nas.service.trust import trusted_spec
from nas.service.workers import CHECKPOINT, job_definition, job_evaluator
from nas.supernet import Alone, Branching, Features, MultiTaskNet, SpaceDefinition, Supernet
from nas.train.affinity import (
    closeness,
    covariance_similarity,
    gradient_cosines,
    image_similarity,
    principal,
    propose,
    representations,
    rsa_affinity,
)
from nas.train.checkpoint import load_checkpoint, part, sha256
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator

IMAGES = 128  # whose representations are compared
BATCH_SIZE = 16
BATCHES = 4  # of gradients
Measure = Callable[[JobSpec, Path, Mapping[str, Path]], Affinity]


class AffinityWorker:
    """Compares the tasks of a trained job.

    Args:
        spec: The job.
        folder: Of the job; holds the supernet's checkpoint.
        twins: Task to the checkpoint of the network trained for it alone; empty where there are none.
        threads: Of torch; None leaves them.
    """

    def __init__(self, spec: JobSpec, folder: Path, twins: Mapping[str, Path], threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._spec, self._twins = spec, twins
        self._evaluator: Evaluator = job_evaluator(spec, folder, job_data(spec, folder))
        self._definition = self._evaluator.supernet.definition

    def measure(self) -> Affinity:
        """Return all that is known of the tasks' affinity, with its trees, and without the sources."""
        data, rng = self._evaluator.data, np.random.default_rng(self._spec.seed)
        order = rng.permutation(len(data.train))
        names = tuple(task.name for task in data.tasks)
        some = data.train.subset(order[: BATCH_SIZE * BATCHES])
        shared = self._evaluator.module(self._definition.teacher)
        mean, spread = gradient_cosines(shared, batches(some, data.tasks, BATCH_SIZE, None), data.tasks)
        found = Affinity(names, "gradients", {}, 0, None, None, None, mean, spread, None, None)
        encode = self._encode_twins() if self._twins else self._encode_branches()
        if encode is not None:
            images = data.train.subset(order[:IMAGES])
            inputs = (x for x, _ in batches(images, data.tasks, BATCH_SIZE, None))
            found = _compared(found, representations(encode, inputs, len(names)))
            found = replace(found, origin="twins" if self._twins else "branches", images=len(images))
        trees = propose(found.affinity, names, found.ranks, found.channels)
        return replace(found, trees=tuple(_costed(self._definition, tree) for tree in trees))

    def _encode_branches(self) -> Callable[[Tensor], Features] | None:
        """Return the features of each task's own branches, where the space has any."""
        if not isinstance(self._definition, Branching):
            return None
        return self._evaluator.module(self._definition.space.largest()).encode

    def _encode_twins(self) -> Callable[[Tensor], Features]:
        """Return the features of each task's own network, task by task."""
        nets = [self._twin(name, path) for name, path in self._twins.items()]
        return lambda x: [feature for net in nets for feature in net.encode(x)]

    def _twin(self, task: str, path: Path) -> MultiTaskNet:
        spec = self._spec
        data = load_data(spec.data, [each for each in spec.tasks if each.name == task], spec.seed)
        definition = job_definition(spec, data)
        supernet = Supernet(Alone(definition, definition.space.largest()))
        tensors, _ = load_checkpoint(path)
        supernet.load_state_dict(part(tensors, "model.supernet."))
        device = choose_compute(spec.training).device
        supernet.to(device).eval()
        return Evaluator(supernet, data.to(device), spec.search.calibration_images).module(definition.space.largest())


def affinity(store: Store, job: JobId, measure: Measure | None = None) -> Affinity:
    """Return how alike the tasks of a trained job are: measured once, then read from its folder.

    Args:
        store: Holds the job.
        job: Its id.
        measure: Where it is measured; None means in this process.

    Raises:
        UserError: The job has one task, or its supernet is not trained or not as it was trained.
    """
    record = store.job(job)
    folder, spec = store.folder(record.id), trusted_spec(store, record.id)
    if len(spec.tasks) < 2:
        raise UserError(
            f"an affinity is between two tasks or more: job {record.id} has {spec.tasks[0].name} alone; "
            "name another task in a job's tasks"
        )
    trained = store.stages(record.id)[Stage.TRAIN]
    if trained.state is not StageState.DONE:
        raise UserError(
            f"an affinity is measured on trained weights: those of job {record.id} are not ({trained.state}); "
            f"nas resume {record.id} trains them"
        )
    twins = _twins(store, record.id, [task.name for task in spec.tasks])
    sources = {"supernet": _digest(folder / CHECKPOINT)} | {task: _digest(path) for task, path in twins.items()}
    if sources["supernet"] != trained.result.get("checkpoint"):
        raise UserError(
            f"an affinity is measured on the weights that were trained: {folder / CHECKPOINT} is not "
            f"{trained.result.get('checkpoint')} any more; train anew"
        )
    known = stored(store, record.id)
    if known is not None and known.sources == sources:
        return known
    found = replace((measure or _here)(spec, folder, twins), sources=sources)
    path = folder / "affinity.json"
    partial = path.with_suffix(".partial")
    partial.write_text(found.to_json(), encoding="utf-8")
    partial.replace(path)
    store.add_artifact(record.id, Artifact(AFFINITY, path, sha256(path), info={"sources": sources, "origin": found.origin}))
    return found


def stored(store: Store, job: JobId) -> Affinity | None:
    """Return what was measured before, whole and as it was written; None where it was not."""
    for artifact in store.artifacts(job, AFFINITY):
        if artifact.path.is_file() and sha256(artifact.path) == artifact.sha256:
            return stored_affinity(artifact.path)
    return None


def proposals(context: JobContext, definition: SpaceDefinition) -> list[ArchConfig]:
    """Return the trees that a search of a space that branches begins with, at most an eighth of its budget; else none.

    Every tree comes at the widths that are enough for its tasks and at full widths, from all shared to all parted.

    Args:
        context: Of the job.
        definition: What is searched: the job's space, with precisions where they are searched, which are then the most exact.
    """
    spec = context.spec
    plain = job_definition(spec, context.data)
    count = spec.search.evaluations // 8
    if not isinstance(plain, Branching) or len(plain.tasks) < 2 or count < 1:
        return []
    trees = measured(context).trees
    archs = [arch for tree in trees for arch in (tree.arch, plain.arch_of(tree.partitions)) if arch is not None]
    distinct = [definition.space.arch(_widest(definition) | dict(arch)) for arch in dict.fromkeys(archs)]
    chosen = np.unique(np.linspace(0, len(distinct) - 1, min(count, len(distinct))).round().astype(int))
    return [distinct[i] for i in chosen]


def measured(context: JobContext) -> Affinity:
    """Return how alike the tasks of a running job are, measured by a worker of its executor.

    Raises:
        UserError: See `affinity`.
        CancelledError: The job was cancelled meanwhile.
    """
    executor = context.executor
    gpus = gpu_share(executor, context.spec.training, 1)

    def measure(spec: JobSpec, folder: Path, twins: Mapping[str, Path]) -> Affinity:
        worker = executor.worker(AffinityWorker, spec, folder, twins, executor.cores, cpus=executor.cores, gpus=gpus)
        try:
            future = worker.call("measure")
            while not wait([future], timeout=0.5).done:
                context.check()
            found: Affinity = future.result()
        finally:
            worker.stop()
        return found

    return affinity(context.store, context.job, measure)


def _here(spec: JobSpec, folder: Path, twins: Mapping[str, Path]) -> Affinity:
    return AffinityWorker(spec, folder, twins).measure()


def _compared(found: Affinity, layers: Sequence[Sequence[Tensor]]) -> Affinity:
    """Return `found` with what representations of shape (images, positions, channels), by layer and task, tell."""
    similar = [[image_similarity(task.flatten(1)) for task in layer] for layer in layers]
    components = [[principal(task.flatten(0, 1)) for task in layer] for layer in layers]
    return replace(
        found,
        rsa=np.stack([rsa_affinity(layer) for layer in similar]),
        closeness=np.stack([closeness(layer) for layer in similar]),
        covariance=np.stack([covariance_similarity(layer) for layer in components]),
        ranks=np.array([[each.shape[1] for each in layer] for layer in components], dtype=np.float64),
        channels=np.array([layer[0].shape[2] for layer in layers], dtype=np.float64),
    )


def _costed(definition: SpaceDefinition, tree: Tree) -> Tree:
    """Return a tree as an architecture of the space at the suggested widths, with what it costs; as it is where it is none.

    The width taken is the smallest of the space's that is enough. A space that does not branch has the tree of one branch only.
    """
    names = [task.name for task in definition.tasks]
    picks = _widest(definition)
    if isinstance(definition, Branching):
        picks |= branching_picks(tree.partitions, names)
    elif any(len(partition) > 1 for partition in tree.partitions):
        return tree
    full = definition.space.arch(picks)
    for layer, widths in enumerate(tree.widths):
        for leader, ratio in widths.items():
            name = f"encoder.{layer}.{leader}.width" if isinstance(definition, Branching) else f"encoder.{layer}.width"
            if name in definition.space:
                options = [float(option) for option in definition.space[name].options]
                picks[name] = next((option for option in options if option >= ratio - 1e-9), options[-1])
    arch = definition.space.arch(picks)
    macs, full_macs = definition.macs([arch, full]).tolist()
    return replace(tree, arch=arch, macs=macs, full_macs=full_macs)


def _widest(definition: SpaceDefinition) -> dict[str, int | float | str]:
    return {choice.name: choice.options[-1] for choice in definition.space.choices}


def _twins(store: Store, job: JobId, tasks: Sequence[str]) -> dict[str, Path]:
    """Return each task's twin, those of the job whose supernet is reused where they were taken over; all of them or none."""
    stage = store.stages(job).get(Stage.TWINS)
    while stage and stage.state is StageState.DONE and stage.result.get("reused"):
        job = str(stage.result["reused"])
        try:
            stage = store.stages(job).get(Stage.TWINS)
        except NotFoundError:
            return {}
    if not stage or stage.state is not StageState.DONE:
        return {}
    found = {task: store.folder(job) / "twins" / task / CHECKPOINT for task in tasks}
    return found if all(path.is_file() for path in found.values()) else {}


def _digest(path: Path) -> str:
    return sha256(path)[:16] if path.is_file() else ""
