"""How good subnets of a supernet are beside the same networks trained alone, on NYUv2 (segmentation, depth, normals).

A supernet of the slimmable space is trained, then the three networks of uniform width 1.0, 0.5 and 0.25 and some random ones
are trained alone with the same recipe. Printed are test metrics of both, their relative difference, and Kendall's rank
correlation between them. Several trainings share the GPU, since networks this small leave most of it idle; they gain by it
where NVIDIA's MPS runs their kernels side by side.

    python benchmarks/inherited.py --data ../shared/data/vision/nyuv2_96x128.npz --epochs 60 --json inherited.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from scipy.stats import kendalltau

from nas.core import ArchConfig, DataSpec, SearchSpace, TaskSpec, TrainingSpec
from nas.data import MultiTaskData, load_data
from nas.supernet import Alone, SpaceDefinition
from nas.tasks import KINDS
from nas.tasks.delta import delta_m
from nas.train.evaluator import Evaluator
from nas.train.trainer import Trainer
from search_spaces import make_space

DATA = Path(__file__).resolve().parents[2] / "shared/data/vision/nyuv2_96x128.npz"
WIDTHS = (1.0, 0.5, 0.25)
CALIBRATION_IMAGES = 256
COLUMNS = (("miou.seg", "mIoU %", ".2f"), ("rmse_m.depth", "RMSE m", ".3f"), ("mean_deg.normals", "normals °", ".2f"))


@dataclass(frozen=True)
class Training:
    """One training run.

    Attributes:
        label: For people.
        arch: The network that is trained alone; None trains the supernet.
        spec: The recipe.
        seed: Of the weights and the batches.
        evaluate: Subnets to evaluate on the test images.
    """

    label: str
    arch: ArchConfig | None
    spec: TrainingSpec
    seed: int
    evaluate: tuple[ArchConfig, ...]


@dataclass(frozen=True)
class Trained:
    """What a training run gave: metrics by architecture key, and seconds."""

    training: Training
    metrics: dict[str, dict[str, float]]
    train_s: float
    evaluate_s: float


def uniform(definition: SpaceDefinition, width: float) -> ArchConfig:
    """Return the network of one width throughout, at full depth and resolution."""
    picks = dict(definition.space.largest())
    return definition.space.arch({n: width if n.endswith(".width") else option for n, option in picks.items()})


def random_networks(space: SearchSpace, count: int, seed: int = 1) -> tuple[ArchConfig, ...]:
    """Return random architectures, half of them of middling size and half of any size.

    Choices picked one by one average out. Every second architecture therefore first draws how large it leans, u uniform in
    [0, 1], and then picks option Binomial(n - 1, u) of each n: over u each option is as likely as any, but choices agree.
    """
    rng = np.random.default_rng(seed)
    archs = []
    for i in range(count):
        if i % 2:
            u = rng.random()
            archs.append(space.arch({c.name: c.options[rng.binomial(len(c.options) - 1, u)] for c in space.choices}))
        else:
            archs.append(space.sample(rng))
    return tuple(archs)


def train(definition: SpaceDefinition, data: MultiTaskData, training: Training) -> Trained:
    """Train one network or supernet and evaluate its subnets."""
    start = time.perf_counter()
    alone = training.arch is not None
    spec = replace(training.spec, subnets=1) if alone else training.spec
    trainer = Trainer(Alone(definition, training.arch) if training.arch else definition, data, spec, training.seed)
    while not trainer.done:
        trainer.run_epoch()
    if trainer.compute.device.type == "cuda":
        torch.cuda.synchronize()
    middle = time.perf_counter()
    trainer.supernet.eval()
    evaluator = Evaluator(trainer.supernet, trainer.data, CALIBRATION_IMAGES)
    metrics = {arch.key: evaluator.evaluate(arch, "test") for arch in training.evaluate}
    return Trained(training, metrics, middle - start, time.perf_counter() - middle)


_process: dict[str, Any] = {}  # of a worker process: the definition and the data


def _start(definition: SpaceDefinition, data: MultiTaskData) -> None:
    torch.set_num_threads(1)
    _process.update(definition=definition, data=data)


def _train(training: Training) -> Trained:
    return train(_process["definition"], _process["data"], training)


def train_all(definition: SpaceDefinition, data: MultiTaskData, trainings: Sequence[Training], processes: int) -> list[Trained]:
    """Return what every training gave, in order; `processes` of them run at a time, the first ones first."""
    results: list[Trained] = []
    with mp.get_context("spawn").Pool(min(processes, len(trainings)), _start, (definition, data)) as pool:
        for result in pool.imap(_train, trainings, chunksize=1):
            print(f"{result.training.label:32s}{result.train_s:7.1f} s, evaluated in {result.evaluate_s:.1f} s", flush=True)
            results.append(result)
    return results


def quality(metrics: Mapping[str, float], reference: Mapping[str, float], definition: SpaceDefinition) -> float:
    """Return the mean relative change over tasks against `reference`, in percent; positive is better."""
    return delta_m(metrics, reference, definition.tasks, KINDS)


def row(label: str, metrics: Mapping[str, float]) -> str:
    """Return one row of the table."""
    return f"{label:26s}" + "".join(f"{metrics[name]:>12{style}}" for name, _, style in COLUMNS)


def report(
    definition: SpaceDefinition, widths: Mapping[float, ArchConfig], every: Sequence[ArchConfig], results: Sequence[Trained]
) -> dict[str, Any]:
    """Print the comparison and return it.

    Args:
        definition: The space.
        widths: The networks of uniform width, the full one among them.
        every: These and the random ones.
        results: Trainings of supernets and of networks alone; of several seeds the mean counts.
    """

    def mean(arch: ArchConfig, alone: bool) -> dict[str, float]:
        rows = [r.metrics[arch.key] for r in results if r.training.arch == (arch if alone else None)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    pairs = [(mean(arch, False), mean(arch, True)) for arch in every]
    gaps = [quality(inherited, alone, definition) for inherited, alone in pairs]
    print(f"\n{'':26s}" + "".join(f"{title:>12s}" for _, title, _ in COLUMNS) + f"{'mean %':>10s}")
    by_width = {}
    for width, arch in widths.items():
        (inherited, alone), gap = pairs[every.index(arch)], gaps[every.index(arch)]
        shares = [(inherited[n] / alone[n] - 1) * (100 if n.startswith("miou") else -100) for n, _, _ in COLUMNS]
        print(row(f"width {width} alone", alone))
        print(row(f"width {width} in supernet", inherited))
        print(f"{'  better by, %':26s}" + "".join(f"{share:>+12.1f}" for share in shares) + f"{gap:>+10.2f}")
        by_width[width] = {"inherited": inherited, "alone": alone, "better_by_percent": gap}
    reference = mean(widths[1.0], True)
    scores = [tuple(quality(metrics, reference, definition) for metrics in pair) for pair in pairs]
    taus = {name: _kendall([(inherited[name], alone[name]) for inherited, alone in pairs]) for name, _, _ in COLUMNS}
    taus["mean"] = _kendall(scores)
    print(f"\nover all {len(every)} networks better by {np.mean(gaps):+.2f} % (worst {min(gaps):+.2f}, best {max(gaps):+.2f})")
    print("Kendall's tau: " + ", ".join(f"{name} {tau:.2f}" for name, tau in taus.items()))
    rows = [
        {
            "label": r.training.label,
            "seed": r.training.seed,
            "arch": dict(r.training.arch) if r.training.arch else None,
            "spec": asdict(r.training.spec),
            "metrics": r.metrics,
            "train_s": r.train_s,
            "evaluate_s": r.evaluate_s,
        }
        for r in results
    ]
    archs = {arch.key: dict(arch) for arch in every}
    return {"widths": by_width, "kendall_tau": taus, "gaps_percent": gaps, "archs": archs, "trainings": rows}


def _kendall(pairs: Sequence[tuple[float, ...]]) -> float:
    return float(kendalltau(*zip(*pairs, strict=True))[0])


def main() -> None:
    """Train, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="nyuv2_96x128.npz")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--alone", type=int, default=13, help="random networks that are trained alone too")
    parser.add_argument("--seeds", type=int, default=1, help="supernets, and trainings alone of each uniform width")
    parser.add_argument("--processes", type=int, default=8, help="trainings at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields of the recipe, as in a job file")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, which takes hours")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if not given.data.exists() or not (torch.cuda.is_available() or given.cpu):
        print(f"skipped: this benchmark needs a CUDA GPU and {given.data}; give the data with --data")
        return
    tasks = [TaskSpec(name) for name in ("seg", "depth", "normals")]
    data = load_data(DataSpec("nyuv2", str(given.data), val_fraction=0), tasks, seed=0)
    definition = make_space("slimmable", {}, data.tasks, data.input)
    spec = replace(TrainingSpec(epochs=given.epochs), **{k: json.loads(v) for k, v in (pair.split("=") for pair in given.set)})

    widths = {width: uniform(definition, width) for width in WIDTHS}
    every = (*widths.values(), *random_networks(definition.space, given.alone))
    trainings = [Training(f"supernet, seed {s}", None, spec, s, every) for s in range(given.seeds)]
    trainings += [Training(f"width {w}, seed {s}", a, spec, s, (a,)) for w, a in widths.items() for s in range(given.seeds)]
    trainings += [Training(f"random {i}", a, spec, 0, (a,)) for i, a in enumerate(every[len(widths) :])]
    start = time.perf_counter()
    results = train_all(definition, data, trainings, given.processes)
    seconds = time.perf_counter() - start
    summary = report(definition, widths, every, results)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{len(trainings)} trainings in {seconds:.0f} s on {device}")
    if given.json:
        given.json.write_text(json.dumps({"device": device, "seconds": seconds, **summary}, indent=1))


if __name__ == "__main__":
    main()
