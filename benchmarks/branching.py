"""Whether the tree that is found beats random ones, on NYUv2 (segmentation, depth, normals).

For each seed a supernet of the branched space is trained, and every tree is evaluated on its weights and the validation images,
all of them at uniform widths that cost as much as the encoder that shares everything at full width. The best tree, random
trees and both extremes are then trained alone with the same recipe and compared in Δm on the test images, against networks of
one task each. All networks cost the same within 5 %, but for the one that shares only the stem at full width, at its own cost.

    python benchmarks/branching.py --data ../shared/data/vision/nyuv2_96x128.npz --json branching.json
    python benchmarks/branching.py --cpu --channels 8 16 32 --decoder-channels 16 --epochs 4 --seeds 1 --random 3
"""

from __future__ import annotations

import argparse
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

from nas.core import ArchConfig, DataSpec, Task, TaskSpec, TrainingSpec
from nas.core.branching import Partition, tree
from nas.data import MultiTaskData, load_data
from nas.supernet import Alone, Branching
from nas.tasks import KINDS
from nas.tasks.delta import delta_m
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
    found = {arch.key: {split: evaluator.evaluate(arch, split) for split in ("val", "test")} for arch in archs}
    seconds = time.perf_counter() - start
    print(f"{training.label:44s}seed {training.seed}{seconds:8.1f} s", flush=True)
    return {"label": training.label, "seed": training.seed, "task": training.task, "metrics": found, "seconds": seconds}


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
    parser.add_argument("--cpu", action="store_true", help="run without a GPU: make it small")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if not given.data.exists() or not (torch.cuda.is_available() or given.cpu):
        print(f"skipped: this benchmark needs a CUDA GPU (or --cpu) and {given.data}; give the data with --data")
        return
    options = {"channels": given.channels, "decoder_channels": given.decoder_channels}
    setting = Setting(given.data, options, TrainingSpec(epochs=given.epochs))
    data, definition = setting.load(None)
    tasks: tuple[Task, ...] = data.tasks
    every = trees(definition, TASKS)
    shared, split = every[0], every[-1]
    budget = float(definition.macs([definition.arch_of(shared)])[0])
    sized = {each: at_cost(definition, each, budget) for each in every}
    costs = definition.macs(list(sized.values())) / budget
    assert np.abs(costs - 1).max() <= TOLERANCE, costs
    rng = np.random.default_rng(0)
    random = [every[1:-1][i] for i in rng.choice(len(every) - 2, given.random, replace=False)]
    start = time.perf_counter()
    results: list[dict[str, Any]] = []
    processes = min(given.processes, given.seeds * (given.random + 7))
    with mp.get_context("spawn").Pool(processes, _start, (setting,)) as pool:
        supernets = [
            pool.apply_async(_train, (Training("supernet", seed, tuple(sized.values())),)) for seed in range(given.seeds)
        ]
        fixed = {
            "all shared": sized[shared],
            "all split, at its own cost": definition.arch_of(split),
            **{f"random: {shown(each)}": sized[each] for each in random},
        }
        jobs = [Training(f"{task} alone", seed, (), task) for task in TASKS for seed in range(given.seeds)]
        jobs += [Training(label, seed, (arch,)) for label, arch in fixed.items() for seed in range(given.seeds)]
        others = [pool.apply_async(_train, (job,)) for job in jobs]
        found: dict[int, Tree] = {}
        late = []
        for seed, waiting in enumerate(supernets):
            results.append(waiting.get())
            order = errors(results[-1]["metrics"], list(sized.values()))
            found[seed] = every[int(np.argmin(order))]
            print(f"seed {seed}: found {shown(found[seed])}", flush=True)
            late.append(pool.apply_async(_train, (Training("found", seed, (sized[found[seed]],)),)))
        results += [each.get() for each in (*others, *late)]
    alone = {seed: {} for seed in range(given.seeds)}  # type: dict[int, dict[str, float]]
    for row in results:
        if row["task"]:
            alone[row["seed"]] |= next(iter(row["metrics"].values()))["test"]
    scores: dict[str, list[float]] = {}
    for row in results:
        if row["task"] or row["label"] == "supernet":
            continue
        metrics = next(iter(row["metrics"].values()))["test"]
        scores.setdefault(row["label"], []).append(delta_m(metrics, alone[row["seed"]], tasks, KINDS))
    print(f"\n{'':70s}{'Δm %':>8s}   by seed")
    for label, values in sorted(scores.items(), key=lambda item: -np.mean(item[1])):
        print(f"{label:70s}{np.mean(values):>+8.2f}   " + " ".join(f"{value:+.2f}" for value in values))
    means = [float(np.mean(values)) for label, values in scores.items() if label.startswith("random")]
    gap = float(np.mean(scores["found"])) - float(np.mean(means))
    taus = []
    for seed in range(given.seeds):
        ranks = dict(zip(every, errors(results[seed]["metrics"], list(sized.values())), strict=True))
        pairs = [(-ranks[each], scores[f"random: {shown(each)}"][seed]) for each in random]
        taus.append(float(kendalltau(*zip(*pairs, strict=True))[0]))
    print(f"found against the mean of {len(means)} random trees: {gap:+.2f} points of Δm; rank correlation of the supernet "
          f"with training alone over the random trees: {np.mean(taus):.2f}")  # fmt: skip
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and not given.cpu else "CPU"
    print(f"{len(results)} trainings in {time.perf_counter() - start:.0f} s on {device}; {budget / 1e6:.0f} million MACs")
    if given.json:
        summary = {"device": device, "macs": budget, "relative_costs": costs.tolist(), "delta_m": scores, "tau": taus}
        summary |= {"found": {seed: shown(each) for seed, each in found.items()}, "trainings": results}
        given.json.write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
