"""Whether the tree that is found beats random ones, on NYUv2 (segmentation, depth, normals).

For each seed a supernet of the branched space is trained, and every tree is evaluated on its weights and the validation images,
all of them at uniform widths that cost as much as the encoder that shares everything at full width. The best one is found by
sampling; differentiable searches of several strengths find others, of which the best on validation counts. These, random trees
and both extremes are compared in Δm on the test images, against networks of one task each: once with the weights of the
supernet, as a job exports them, and once trained alone with the same recipe. All networks cost the same within 5 %, but for the
one that shares only the stem at full width, at its own cost.

    python benchmarks/branching.py --data ../shared/data/vision/nyuv2_96x128.npz --json branching.json
    python benchmarks/branching.py --cpu --channels 16 32 64 --decoder-channels 32 --epochs 2 --seeds 1 --random 2 --processes 2
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from scipy.stats import kendalltau

from nas.core import ArchConfig, DataSpec, DifferentiableSpec, Task, TaskSpec, TrainingSpec
from nas.core.branching import Partition, tree
from nas.data import MultiTaskData, load_data
from nas.supernet import Alone, Branching
from nas.tasks import KINDS
from nas.tasks.delta import delta_m
from nas.train.bilevel import search_tree
from nas.train.evaluator import Evaluator
from nas.train.trainer import Trainer
from search_spaces import make_space

DATA = Path(__file__).resolve().parents[2] / "shared/data/vision/nyuv2_96x128.npz"
TASKS = ("seg", "depth", "normals")
WIDTHS = tuple(np.linspace(0.5, 1.0, 17).tolist())
CALIBRATION_IMAGES = 256
TOLERANCE = 0.05  # relative, of the multiply-accumulates

Tree = tuple[Partition, ...]


@dataclass(frozen=True)
class Training:
    """One training run: of the supernet where `archs` are several, of one network alone, or of one task alone."""

    label: str
    seed: int
    archs: tuple[ArchConfig, ...]
    task: str | None = None


@dataclass(frozen=True)
class Setting:
    """What all trainings share."""

    data: Path
    options: Mapping[str, Any]
    spec: TrainingSpec
    strengths: tuple[float, ...]

    def load(self, task: str | None) -> tuple[MultiTaskData, Branching]:
        """Return the data of one task or all, and the space."""
        data = load_data(DataSpec("nyuv2", str(self.data)), [TaskSpec(name) for name in ([task] if task else TASKS)], seed=0)
        definition = make_space("branched", {**self.options, "widths": WIDTHS}, data.tasks, data.input)
        assert isinstance(definition, Branching)
        return data, definition


def trees(definition: Branching, tasks: Sequence[str]) -> list[Tree]:
    """Return every tree of the space, by what it costs at full width."""
    alone = make_space("branched", {"widths": [1.0], "channels": [8] * definition.layers}, definition.tasks, definition.input)
    found = [tree(arch, tasks, definition.layers) for arch in alone.space.enumerate()]
    return sorted(found, key=lambda each: float(definition.macs([definition.arch_of(each)])[0]))


def at_cost(definition: Branching, partitions: Tree, macs: float) -> ArchConfig:
    """Return the network of a tree, at one width or nearly so throughout, that costs nearest to `macs`."""
    widest = definition.arch_of(partitions)
    sizes = []
    for ratio in np.linspace(WIDTHS[0], 1.0, 65):
        for lean in (-0.06, -0.03, 0.0, 0.03, 0.06):  # of the decoders, since widths come in steps of 8 channels
            picks = dict(widest)
            for name in (name for name in widest if name.endswith("width")):
                aim = ratio + (lean if name.startswith("decoder") else 0)
                picks[name] = min(definition.space[name].options, key=lambda option: abs(float(option) - aim))
            sizes.append(definition.space.arch(picks))
    return sizes[int(np.argmin(np.abs(definition.macs(sizes) - macs)))]


_loaded: dict[str | None, tuple[MultiTaskData, Branching]] = {}  # of a worker process, by task


def train(setting: Setting, training: Training) -> dict[str, Any]:
    """Train, and return metrics on ``val`` and ``test`` by architecture key."""
    start = time.perf_counter()
    if training.task not in _loaded:
        _loaded[training.task] = setting.load(training.task)
    data, definition = _loaded[training.task]
    if training.task:
        arch = definition.space.largest()
        trainer = Trainer(Alone(definition, arch), data, replace(setting.spec, subnets=1), training.seed)
        archs: tuple[ArchConfig, ...] = (arch,)
    elif len(training.archs) == 1:
        archs = training.archs
        trainer = Trainer(Alone(definition, archs[0]), data, replace(setting.spec, subnets=1), training.seed)
    else:
        archs = training.archs
        trainer = Trainer(definition, data, setting.spec, training.seed)
    while not trainer.done:
        trainer.run_epoch()
    trainer.supernet.eval()
    evaluator = Evaluator(trainer.supernet, trainer.data, CALIBRATION_IMAGES)
    trained_s = time.perf_counter() - start
    found = {arch.key: {split: evaluator.evaluate(arch, split) for split in ("val", "test")} for arch in archs}
    row = {"label": training.label, "seed": training.seed, "task": training.task, "metrics": found, "seconds": trained_s}
    if len(training.archs) > 1:
        row["derived"] = [derived(trainer, definition, strength) for strength in setting.strengths]
    print(f"{training.label:76s}seed {training.seed}{time.perf_counter() - start:8.1f} s", flush=True)
    return row


def derived(trainer: Trainer, definition: Branching, strength: float) -> Tree:
    """Return the tree that a differentiable search of some strength ends with, from a trained supernet."""
    options = DifferentiableSpec(epochs=max(1, trainer.spec.epochs // 3))
    epochs = search_tree(
        definition,
        copy.deepcopy(trainer.supernet.shared),
        copy.deepcopy(trainer.balancer),
        trainer.data,
        trainer.spec,
        options,
        strength,
        torch.as_tensor(definition.layer_macs()),
        trainer.compute,
        trainer.seed,
    )
    return list(epochs)[-1].tree


_process: dict[str, Setting] = {}  # of a worker process


def _start(setting: Setting) -> None:
    torch.set_num_threads(1)
    _process["setting"] = setting


def _train(training: Training) -> dict[str, Any]:
    return train(_process["setting"], training)


def errors(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], archs: Sequence[ArchConfig]) -> np.ndarray:
    """Return validation errors relative to their mean over the architectures, averaged over tasks, shape (n,)."""
    table = np.array([[metrics[arch.key]["val"][f"error.{task}"] for task in TASKS] for arch in archs])
    return np.asarray((table / table.mean(axis=0)).mean(axis=1))


def shown(partitions: Tree) -> str:
    """Return a tree in one line: the first layer's branches, then those of each layer where something parts."""
    words, before = [], None
    for layer, blocks in enumerate(partitions):
        text = " | ".join("+".join(block) for block in blocks)
        if text != before:
            words.append(f"{layer}: {text}")
        before = text
    return ", ".join(words)


def main() -> None:
    """Train, print the comparison and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="nyuv2_96x128.npz")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=8, help="random trees that are trained alone")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--decoder-channels", type=int, default=64)
    parser.add_argument("--processes", type=int, default=8, help="trainings at a time")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.05, 0.2], help="of the differentiable searches")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU: make it small")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if not given.data.exists() or not (torch.cuda.is_available() or given.cpu):
        print(f"skipped: this benchmark needs a CUDA GPU (or --cpu) and {given.data}; give the data with --data")
        return
    options = {"channels": given.channels, "decoder_channels": given.decoder_channels}
    setting = Setting(given.data, options, TrainingSpec(epochs=given.epochs), tuple(given.strengths))
    data, definition = setting.load(None)
    tasks: tuple[Task, ...] = data.tasks
    every = trees(definition, TASKS)
    shared, split = every[0], every[-1]
    budget = float(definition.macs([definition.arch_of(shared)])[0])
    sized = {each: at_cost(definition, each, budget) for each in every}
    costs = definition.macs(list(sized.values())) / budget
    every = [each for each, cost in zip(every, costs, strict=True) if abs(cost - 1) <= TOLERANCE]
    print(f"{len(every)} of {len(sized)} trees can cost the same within {TOLERANCE:.0%}; the others are left out")
    sized = {each: sized[each] for each in every}
    rng = np.random.default_rng(0)
    inner = [each for each in every if each not in (shared, split)]
    random = [inner[i] for i in rng.choice(len(inner), given.random, replace=False)]
    start = time.perf_counter()
    processes = min(given.processes, given.seeds * (given.random + 7))
    with mp.get_context("spawn").Pool(processes, _start, (setting,)) as pool:
        everything = (*sized.values(), definition.arch_of(split))
        supernets = [pool.apply_async(_train, (Training("supernet", seed, everything),)) for seed in range(given.seeds)]
        networks = {
            "all shared": sized[shared],
            "all split, at its own cost": definition.arch_of(split),
            **{f"random: {shown(each)}": sized[each] for each in random},
        }
        jobs = [Training(f"{task} alone", seed, (), task) for task in TASKS for seed in range(given.seeds)]
        jobs += [Training(label, seed, (arch,)) for label, arch in networks.items() for seed in range(given.seeds)]
        others = [pool.apply_async(_train, (job,)) for job in jobs]
        found: dict[str, list[Tree]] = {"found by sampling": [], "found by gradients": []}
        trained = []
        for seed, waiting in enumerate(supernets):
            trained.append(waiting.get())
            ranks = dict(zip(every, errors(trained[-1]["metrics"], list(sized.values())), strict=True))
            by_gradients = [each for each in trained[-1]["derived"] if each in ranks]
            print(f"seed {seed}, by gradients: {' || '.join(map(shown, trained[-1]['derived']))}", flush=True)
            found["found by sampling"].append(min(every, key=lambda each: ranks[each]))
            found["found by gradients"].append(min(by_gradients, key=lambda each: ranks[each], default=shared))
            others += [
                pool.apply_async(_train, (Training(label, seed, (sized[picked[seed]],)),)) for label, picked in found.items()
            ]
        alone = [each.get() for each in others]
    twins: dict[int, dict[str, float]] = {seed: {} for seed in range(given.seeds)}
    for row in alone:
        if row["task"]:
            twins[row["seed"]] |= next(iter(row["metrics"].values()))["test"]

    def better(metrics: Mapping[str, Mapping[str, float]], seed: int) -> float:
        return delta_m(metrics["test"], twins[seed], tasks, KINDS)

    scores: dict[str, dict[str, list[float]]] = {"supernet": {}, "alone": {}}
    for seed, row in enumerate(trained):
        for label, arch in (networks | {label: sized[picked[seed]] for label, picked in found.items()}).items():
            scores["supernet"].setdefault(label, []).append(better(row["metrics"][arch.key], seed))
    for row in sorted(alone, key=lambda row: row["seed"]):
        if not row["task"]:
            scores["alone"].setdefault(row["label"], []).append(better(next(iter(row["metrics"].values())), row["seed"]))
    print(f"\n{'Δm %, mean and by seed':84s}" + "".join(f"{how:30s}" for how in scores))
    for label in sorted(scores["supernet"], key=lambda each: -np.mean(scores["supernet"][each])):
        columns = (f"{np.mean(v):+6.2f} ({' '.join(f'{x:+.2f}' for x in v)})" for v in (scores[how][label] for how in scores))
        print(f"{label:84s}" + "".join(f"{column:30s}" for column in columns))
    for how, rows in scores.items():
        mean = np.mean([np.mean(values) for label, values in rows.items() if label.startswith("random")])
        gaps = (f"{label} {np.mean(rows[label]) - mean:+.2f}" for label in found)
        print(f"{how}: random trees {mean:+.2f} on average; against them {', '.join(gaps)}")
    pairs = [(np.mean(scores["supernet"][label]), np.mean(values)) for label, values in scores["alone"].items()]
    print(f"rank correlation of the supernet with training alone: {kendalltau(*zip(*pairs, strict=True))[0]:.2f}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and not given.cpu else "CPU"
    seconds = time.perf_counter() - start
    print(f"{len(trained) + len(alone)} trainings in {seconds:.0f} s on {device}; {budget / 1e6:.0f} million MACs")
    if given.json:
        picked = {label: [shown(each) for each in row] for label, row in found.items()}
        summary = {"device": device, "macs": budget, "relative_costs": costs.tolist(), "delta_m": scores, "found": picked}
        given.json.write_text(json.dumps({**summary, "trainings": [*trained, *alone]}, indent=1))


if __name__ == "__main__":
    main()
