"""How many multiply-accumulates channel pruning saves on a point of an NYUv2 front, and what it costs each task.

A subnet with the weights it has in the supernet is pruned under several bounds (PAGCP), and every network, the unpruned one
among them, is trained alone for the same epochs at the same learning rates; the rate is picked on the validation images.
Printed are test metrics before and after, and the relative change of each task's headline metric against the subnet as it was
inherited, positive where better.

    python benchmarks/refinement.py --store nas.db --job JOB --arch KEY
    python benchmarks/refinement.py --checkpoint half.safetensors --options '{"channels": [16, 32, 64, 128]}' --arch arch.json

The second form needs torch and this repository alone: neither a store nor Ray.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from nas.core import ArchConfig, DataSpec, TaskSpec, TrainingSpec
from nas.core.refinement import narrowed_arch
from nas.data import MultiTaskData, load_data
from nas.supernet import MultiTaskNet, Supernet
from nas.tasks import task_kind
from nas.train.checkpoint import load_checkpoint
from nas.train.compute import choose_compute
from nas.train.evaluator import Evaluator, evaluate_module
from nas.train.finetune import Given, epochs_of, evenly, finetuner, mean_losses, relative_error
from nas.train.pruning import PRUNING_IMAGES, pagcp
from nas.train.pruning.channels import LayerMacs
from search_spaces import make_space

DATA = Path(__file__).resolve().parents[2] / "shared/data/vision/nyuv2_96x128.npz"
CALIBRATION_IMAGES = 256
LEAST_SAVED, MOST_LOST = 30.0, -2.0  # percent


@dataclass(frozen=True)
class Subject:
    """A subnet with its weights, and the data it was trained on.

    Attributes:
        net: Batch norm recalibrated, in evaluation mode.
        arch: Its picks.
        data: On the CPU.
        spec: The recipe of its supernet.
    """

    net: MultiTaskNet
    arch: ArchConfig
    data: MultiTaskData
    spec: TrainingSpec


@dataclass(frozen=True)
class Run:
    """One network trained alone, to be handed to a process.

    Attributes:
        label: For people.
        net: To begin with.
        arch: Its picks.
        spec: The recipe.
    """

    label: str
    net: MultiTaskNet
    arch: ArchConfig
    spec: TrainingSpec


def from_checkpoint(
    path: Path, options: Mapping[str, Any], arch: ArchConfig, data: MultiTaskData, spec: TrainingSpec
) -> Subject:
    """Return a subnet of the supernet whose weights a checkpoint holds."""
    supernet = Supernet(make_space("slimmable", options, data.tasks, data.input))
    tensors, _ = load_checkpoint(path)
    prefix = "model.supernet."
    supernet.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    device = choose_compute(spec).device
    supernet.to(device=device, memory_format=torch.channels_last).eval()
    net = Evaluator(supernet, data.to(device), CALIBRATION_IMAGES).module(arch)
    return Subject(net.cpu(), arch, data, spec)


def from_store(url: str, job: str, key: str, path: Path | None) -> Subject:
    """Return a verified subnet of a job."""
    from nas.core.refinement import inherited_arch
    from nas.service.refining import find
    from nas.service.workers import CHECKPOINT
    from nas.store import open_store

    store = open_store(url, create=False)
    record = store.job(job)
    spec = record.spec if path is None else replace(record.spec, data=replace(record.spec.data, path=str(path)))
    data = load_data(spec.data, spec.tasks, spec.seed)
    arch = inherited_arch(find(store, record.id, key).arch)
    return from_checkpoint(record.folder / CHECKPOINT, spec.space.options, arch, data, spec.training)


_process: dict[str, Any] = {}  # of a worker process: the data


def _start(data: MultiTaskData) -> None:
    torch.set_num_threads(1)
    _process.update(data=data)


def train(run: Run) -> dict[str, Any]:
    """Train one network alone; return its metrics on the validation and the test images."""
    data: MultiTaskData = _process["data"]
    start = time.perf_counter()
    given = Given(run.net, run.arch, data.tasks, data.input)
    trainer = finetuner(given, data, run.spec, 0, None, {})
    for _ in epochs_of(trainer):
        pass
    trainer.supernet.eval()
    evaluator = Evaluator(trainer.supernet, trainer.data, CALIBRATION_IMAGES)
    found = {split: evaluator.evaluate(given.space.largest(), split) for split in ("val", "test")}
    return {"label": run.label, "learning_rate": run.spec.learning_rate, **found, "seconds": time.perf_counter() - start}


def errors(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the error of every task."""
    return {name: value for name, value in metrics.items() if name.startswith("error.")}


def changes(metrics: Mapping[str, float], reference: Mapping[str, float], data: MultiTaskData) -> dict[str, float]:
    """Return the relative change of each task's headline metric in percent, positive where better."""
    found = {}
    for task in data.tasks:
        headline = task_kind(task.kind).metrics[0]
        name = f"{headline.name}.{task.name}"
        sign = 1 if headline.higher_is_better else -1
        found[name] = sign * 100 * (metrics[name] / reference[name] - 1)
    return found


def refine(
    subject: Subject, growths: list[float], multiple: int, rates: list[float], epochs: int, processes: int
) -> dict[str, Any]:
    """Prune and train; print the table and return every number."""
    data, device = subject.data, choose_compute(subject.spec).device
    here, net = data.to(device), subject.net.to(device)
    before = {split: evaluate_module(net, getattr(here, split), data.tasks) for split in ("val", "test")}
    macs = LayerMacs(net, data.input, [])({})
    images = evenly(here.train, PRUNING_IMAGES)
    networks: dict[str, tuple[MultiTaskNet, ArchConfig, dict[str, Any]]] = {
        "unpruned": (subject.net, subject.arch, {"macs": macs, "test": before["test"]})
    }
    for growth in growths:
        start = time.perf_counter()
        pruning = pagcp(net, data.input, lambda each: mean_losses(each, images, data.tasks), growth, multiple=multiple)
        facts = {
            "macs": pruning.macs[1],
            "test": evaluate_module(pruning.net, here.test, data.tasks),
            "growth": {t: pruning.after[t] / pruning.before[t] - 1 for t in pruning.before},
            "cuts": [asdict(cut) for cut in pruning.cuts],
            "seconds": time.perf_counter() - start,
        }
        arch = narrowed_arch(subject.arch, pruning.channels)
        networks[f"pruned within {growth:g}"] = (pruning.net.cpu(), arch, facts)
        print(f"pruned within {growth:g}: {100 * (1 - facts['macs'] / macs):.1f} % of the MACs, {facts['seconds']:.1f} s")
    subject.net.cpu()
    runs = [
        Run(label, network, arch, replace(subject.spec, subnets=1, epochs=epochs, learning_rate=rate))
        for label, (network, arch, _) in networks.items()
        for rate in rates
    ]
    with mp.get_context("spawn").Pool(min(processes, len(runs)), _start, (data,)) as pool:
        trained = list(pool.imap(train, runs, chunksize=1))
    names = list(changes(before["test"], before["test"], data))
    print(f"\n{'':26s}{'MACs saved %':>13s}" + "".join(f"{name:>18s}" for name in names))
    shown = {name: before["test"][name] for name in names}
    print(f"{'inherited':26s}{0:13.1f}" + "".join(f"{value:18.3f}" for value in shown.values()))
    table = []
    for label, (_, _, facts) in networks.items():
        own = [row for row in trained if row["label"] == label]
        best = min(own, key=lambda row: relative_error(errors(row["val"]), errors(before["val"])))
        saved, change = 100 * (1 - facts["macs"] / macs), changes(best["test"], before["test"], data)
        at_once = changes(facts["test"], before["test"], data)
        if label != "unpruned":
            print(f"{label:26s}{saved:13.1f}" + "".join(f"{value:+17.1f}%" for value in at_once.values()))
        trained_label = f"  trained at {best['learning_rate']:g}"
        print(f"{trained_label if label != 'unpruned' else 'unpruned,' + trained_label[1:]:26s}{saved:13.1f}", end="")
        print("".join(f"{value:+17.1f}%" for value in change.values()))
        table.append(
            {"label": label, "saved_percent": saved, "pruned": at_once, "trained": change, "facts": facts, "best": best}
        )
    good = [row for row in table if row["saved_percent"] >= LEAST_SAVED and min(row["trained"].values()) >= MOST_LOST]
    verdict = max((row["saved_percent"] for row in good), default=None)
    print(f"most MACs saved with no task more than {-MOST_LOST:g} % worse: {'none' if verdict is None else f'{verdict:.1f} %'}")
    return {"arch": dict(subject.arch), "macs": macs, "before": before, "table": table, "runs": trained}


def main() -> None:
    """Refine, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=None, help="database of the job")
    parser.add_argument("--job", default="latest")
    parser.add_argument("--checkpoint", type=Path, default=None, help="weights of a supernet, instead of a job")
    parser.add_argument("--options", type=json.loads, default={}, help="of its slimmable space, as JSON")
    parser.add_argument("--arch", action="append", default=[], help="key of a subnet, or a JSON file of its picks; repeatable")
    parser.add_argument("--data", type=Path, default=None, help="nyuv2_96x128.npz")
    parser.add_argument("--growths", type=float, nargs="*", default=[0.1, 0.3, 1.0], help="most that a loss grows by pruning")
    parser.add_argument("--multiple", type=int, default=8, help="of the channels that stay, as nas finetune has it")
    parser.add_argument("--learning-rates", type=float, nargs="*", default=[2e-4, 6e-4, 2e-3])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    path = given.data or DATA
    if not path.exists() or not given.arch or not (given.store or given.checkpoint):
        print(f"skipped: this benchmark needs {path} (--data), a job (--store) or weights (--checkpoint), and --arch")
        return
    start, found = time.perf_counter(), []
    for arch in given.arch:
        if given.store:
            subject = from_store(given.store, given.job, arch, given.data)
        else:
            tasks = [TaskSpec(name) for name in ("seg", "depth", "normals")]
            data = load_data(DataSpec("nyuv2", str(path)), tasks, seed=0)
            picks = ArchConfig(json.loads(Path(arch).read_text()))
            subject = from_checkpoint(given.checkpoint, given.options, picks, data, TrainingSpec())
        print(f"\n{subject.arch.key}")
        found.append(refine(subject, given.growths, given.multiple, given.learning_rates, given.epochs, given.processes))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"\n{time.perf_counter() - start:.0f} s on {device}")
    if given.json:
        given.json.write_text(json.dumps({"device": device, "subjects": found}, indent=1))


if __name__ == "__main__":
    main()
