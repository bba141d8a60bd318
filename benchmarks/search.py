"""Hypervolume of each searcher against evaluations, on a surrogate or on any table of measured architectures.

    python benchmarks/search.py --problems ofa_mbv3 --searchers predictor --seeds 10 --processes 2
    python benchmarks/search.py --problems transnas_seg transnas_class nasbench201 --json search.json
    python benchmarks/search.py --table cells.parquet --choices op0,op1,width --objectives accuracy:max,macs:min --exact macs

``ofa_mbv3``: a surrogate of real ImageNet evaluations of once-for-all MobileNetV3 subnets; MACs counted, top-1 to be measured;
space, surrogate and reference point are described in its module. ``transnas_seg`` (segmentation accuracy, normals, MACs),
``transnas_class`` (scene and object accuracy, MACs; MACs counted in both) and ``nasbench201`` (CIFAR-100 test accuracy,
Raspberry Pi 4 latency; neither is counted) are whole tables. None of these files is part of this repository: a problem whose
file is not there is skipped with a line that says so.

On a table the hypervolume is a share of that of the table's true front. The reference point is the worst value of each
objective in the table, or with ``--reference nadir`` the worst of the true front and a tenth of the front's range beyond it.
An architecture that the table lacks, or whose row lacks a value, is told as failed and counts as an evaluation.

The last column says at which evaluation the mean hypervolume of a searcher first reaches what the best other one of ``nsga2``,
``tpe``, ``linas`` and ``random`` has in the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nas.core import (
    ArchConfig,
    BoolArray,
    Choice,
    Evaluation,
    FloatArray,
    Objective,
    SearchSpace,
    Source,
    hypervolume,
    pareto_mask,
    to_minimise,
)
from nas.search import SEARCHERS, make_searcher

SHARED = Path(__file__).resolve().parents[2] / "shared"
PEERS = ("nsga2", "tpe", "linas", "random")
AT = (50, 100, 150, 200, 250, 300)


@dataclass(frozen=True)
class Problem:
    """What is searched, and how a sequence of evaluations is scored.

    Attributes:
        metrics: Architectures to their metrics; an empty mapping where there are none.
        volume: Minimised values, shape (n, m), to a hypervolume in [0, 1].
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    exact: Mapping[str, Callable[[Sequence[ArchConfig]], FloatArray]]
    metrics: Callable[[Sequence[ArchConfig]], list[dict[str, float]]]
    volume: Callable[[FloatArray], float]


def ofa_mbv3(shared: Path) -> Problem:
    """Return 5 depths, and a kernel size and an expansion for each layer that the depths leave active."""
    spec = importlib.util.spec_from_file_location("surrogate", shared / "benchmarks/ofa_mbv3_surrogate.py")
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    surrogate = bench.Surrogate()
    choices = [Choice(f"stage{s}.depth", (2, 3, 4)) for s in range(5)]
    for layer in range(20):
        stage, position = divmod(layer, 4)
        condition = (f"stage{stage}.depth", tuple(d for d in (2, 3, 4) if d > position)) if position >= 2 else None
        choices.append(Choice(f"layer{layer:02d}.kernel", (3, 5, 7), condition))
        choices.append(Choice(f"layer{layer:02d}.expansion", (3, 4, 6), condition))

    def config(arch: ArchConfig) -> dict[str, list[int]]:
        """Spell the architecture as the surrogate does; inactive layers get any valid value."""
        return {
            "ks": [int(arch.get(f"layer{i:02d}.kernel", 3)) for i in range(20)],
            "e": [int(arch.get(f"layer{i:02d}.expansion", 3)) for i in range(20)],
            "d": [int(arch[f"stage{s}.depth"]) for s in range(5)],
        }

    def metrics(archs: Sequence[ArchConfig]) -> list[dict[str, float]]:
        found = surrogate.evaluate([config(arch) for arch in archs])
        return [{"macs": float(macs), "error.imagenet": float(error)} for macs, error in found]

    return Problem(
        SearchSpace("ofa_mbv3", choices),
        (Objective("error.imagenet"), Objective("macs")),
        {"macs": lambda archs: surrogate._macs.predict(np.array([bench._joint(config(arch)) for arch in archs]))},
        metrics,
        # Beyond the ideal the module's sweep would subtract: what is better than the table's best counts as equal.
        lambda values: bench.hypervolume(np.maximum(values[:, ::-1], bench.IDEAL)),
    )


def from_table(
    name: str,
    columns: Mapping[str, Sequence[float | str]],
    metrics: dict[str, FloatArray],
    objectives: Sequence[Objective],
    counted: Sequence[str],
    reference: str,
) -> Problem:
    """Return the problem of a table.

    Args:
        name: Name of the space.
        columns: Choice to the option of every row; options are ordered as numbers, or as text.
        metrics: Metric to its values, shape (rows,); NaN where a row has none.
        objectives: Metrics of the table.
        counted: Those of them that are known of every architecture without measuring.
        reference: ``worst`` or ``nadir``.
    """
    space = SearchSpace(name, [Choice(choice, tuple(sorted(set(picks)))) for choice, picks in columns.items()])
    rows = list(zip(*columns.values(), strict=True))
    at = {row: i for i, row in enumerate(rows)}
    table = np.stack([metrics[o.metric] for o in objectives], axis=1)
    signs = np.array([o.sign for o in objectives])
    values = table[np.isfinite(table).all(axis=1)] * signs
    true_front = values[pareto_mask(values)]
    worst, nadir = values.max(axis=0), true_front.max(axis=0)
    corner = worst if reference == "worst" else nadir + 0.1 * (nadir - true_front.min(axis=0))
    whole = hypervolume(true_front, corner)

    def row_of(arch: ArchConfig) -> int | None:
        return at.get(tuple(arch[choice] for choice in columns))

    def lookup(archs: Sequence[ArchConfig]) -> list[dict[str, float]]:
        found = [row_of(arch) for arch in archs]
        return [{} if i is None else {o.metric: float(v) for o, v in zip(objectives, table[i], strict=True)} for i in found]

    def count(metric: str, archs: Sequence[ArchConfig]) -> FloatArray:
        found = [row_of(arch) for arch in archs]
        return np.array([np.nan if i is None else metrics[metric][i] for i in found])

    exact = {metric: (lambda archs, metric=metric: count(metric, archs)) for metric in counted}
    return Problem(space, tuple(objectives), exact, lookup, lambda v: hypervolume(v, corner) / whole)


@cache
def problem(name: str, shared: Path, reference: str, table: Path, choices: str, objectives: str, exact: str) -> Problem:
    """Return a problem by its name; ``table`` is the file with the columns given."""
    if name == "ofa_mbv3":
        return ofa_mbv3(shared)
    import pandas as pd

    if name == "nasbench201":
        frame = pd.read_parquet(shared / "data/nas/nasbench201_devices.parquet")
        kinds = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
        cells = [[edge.split("~")[0] for edge in cell.replace("+", "").split("|") if edge] for cell in frame["arch_str"]]
        columns = {f"edge{i}": [kinds.index(cell[i]) for cell in cells] for i in range(6)}
        objectives, exact = "acc_cifar100_test_200ep:max,hwnb_cifar100_raspi4_latency:min", ""
    elif name in ("transnas_seg", "transnas_class"):
        frame = pd.read_parquet(shared / "data/nas/transnas101_micro_4tasks.parquet")
        cells = [[int(op) for op in cell.split("-")[2].replace("_", "")] for cell in frame["arch"]]
        columns = {f"edge{i}": [cell[i] for cell in cells] for i in range(6)}
        tasks = {
            "transnas_seg": "segmentsemantic__valid_acc:max,normal__valid_ssim:max",
            "transnas_class": "class_scene__valid_top1:max,class_object__valid_top1:max",
        }
        objectives, exact = f"{tasks[name]},encoder_conv_macs_256px:min", "encoder_conv_macs_256px"
    else:
        frame = pd.read_parquet(table)
        columns = {column: frame[column].tolist() for column in choices.split(",")}
    pairs = [pair.rsplit(":", 1) for pair in objectives.split(",")]
    wanted = [Objective(metric, "max" if direction == "max" else "min") for metric, direction in pairs]
    metrics = {o.metric: frame[o.metric].to_numpy(dtype=float) for o in wanted}
    return from_table(name, columns, metrics, wanted, [metric for metric in exact.split(",") if metric], reference)


def search(given: Problem, searcher_name: str, seed: int, evaluations: int, batch: int) -> dict[str, object]:
    """Run one search; return its hypervolume after every batch, and what the searcher itself took."""
    searcher = make_searcher(searcher_name, given.space, given.objectives, seed, given.exact)
    values = np.empty((0, len(given.objectives)))
    done, curve, slowest, own, failed = 0, [], 0.0, 0.0, 0
    while done < evaluations:
        began = time.perf_counter()
        archs = searcher.ask(min(batch, evaluations - done))
        slowest, own = max(slowest, time.perf_counter() - began), own + time.perf_counter() - began
        if not archs:
            break
        metrics = given.metrics(archs)
        told = to_minimise(given.objectives, metrics)
        bad: BoolArray = np.asarray(~np.isfinite(told).all(axis=1))
        searcher.tell(
            [
                Evaluation(arch, row, Source.MEASURED, "search", failure="not in the table" if lacks else "")
                for arch, row, lacks in zip(archs, metrics, bad, strict=True)
            ]
        )
        values = np.concatenate([values, told[~bad]])
        done, failed = done + len(archs), failed + int(bad.sum())
        curve.append((done, given.volume(values)))
    taus = {report.target: report.quality["kendall_tau"] for report in searcher.reports()}
    return {"seed": seed, "curve": curve, "own_s": own, "slowest_ask_s": slowest, "failed": failed, "kendall_tau": taus}


def _run(source: tuple[str, Path, str, Path, str, str, str], name: str, seed: int, count: int, batch: int) -> dict[str, object]:
    return search(problem(*source), name, seed, count, batch)


def interval_95(values: FloatArray) -> FloatArray:
    """Return half the width of the 95 % confidence interval of the mean over seeds (Student's t), for shape (seeds, n)."""
    from scipy.stats import t

    seeds = len(values)
    if seeds < 2:
        return np.full(values.shape[1], np.nan)
    return np.asarray(t.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds))


def reached(curve: Sequence[tuple[int, float]], level: float) -> int | None:
    """Return at which evaluation a curve first has this level; None if it never does."""
    return next((done for done, volume in curve if volume >= level), None)


def summarise(runs: dict[str, list[dict[str, object]]], at: Sequence[int]) -> list[dict[str, object]]:
    """Return one row per searcher: mean curve, intervals, and when the level of the best peer is reached."""
    rows: list[dict[str, object]] = []
    for name, seeds in runs.items():
        shortest = min(len(run["curve"]) for run in seeds)  # type: ignore[arg-type]
        table = np.array([[volume for _, volume in run["curve"][:shortest]] for run in seeds])  # type: ignore[index]
        dones = [done for done, _ in seeds[0]["curve"][:shortest]]  # type: ignore[index]
        mean, half = table.mean(axis=0), interval_95(table)
        columns = [max((i for i, done in enumerate(dones) if done <= n), default=0) for n in at]
        rows.append(
            {
                "searcher": name,
                "evaluations": list(at),
                "mean": mean[columns].tolist(),
                "half_interval_95": half[columns].tolist(),
                "mean_curve": list(zip(dones, mean.tolist(), strict=True)),
                "own_s": float(np.mean([run["own_s"] for run in seeds])),
                "slowest_ask_s": float(max(run["slowest_ask_s"] for run in seeds)),  # type: ignore[type-var, arg-type]
                "runs": seeds,
            }
        )
    for row in rows:
        peers = {r["searcher"]: r["mean_curve"][-1][1] for r in rows if r["searcher"] in PEERS and r is not row}  # type: ignore[index]
        row["best_peer"] = max(peers, key=lambda name: peers[name]) if peers else None
        row["reaches_best_peer_at"] = reached(row["mean_curve"], max(peers.values())) if peers else None  # type: ignore[arg-type]
    return rows


def show(rows: list[dict[str, object]], at: Sequence[int]) -> None:
    """Print one line per searcher."""
    head = "".join(f"{n:>14d}" for n in at)
    print(f"{'searcher':10s}{head}{'own s':>8s}{'max ask s':>11s}  reaches the best peer's end at")
    for row in rows:
        pairs = zip(row["mean"], row["half_interval_95"], strict=True)  # type: ignore[call-overload]
        cells = "".join(f"{mean:>8.4f} ±{half:.3f}" for mean, half in pairs)
        peer = f"  {row['reaches_best_peer_at']} ({row['best_peer']})" if row["best_peer"] else "  -"
        print(f"{row['searcher']:10s}{cells}{row['own_s']:>8.1f}{row['slowest_ask_s']:>11.2f}{peer}", flush=True)


def main() -> None:
    """Run every searcher with every seed on every problem; print a table per problem and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built_in = ("ofa_mbv3", "transnas_seg", "transnas_class", "nasbench201")
    parser.add_argument("--problems", nargs="*", default=None, choices=built_in, help="default: all, or none beside --table")
    parser.add_argument("--table", type=Path, default=Path(), help="a Parquet file with one row per architecture")
    parser.add_argument("--choices", default="", help="columns of the table that pick the architecture, joined by commas")
    parser.add_argument("--objectives", default="", help="COLUMN:min or COLUMN:max, joined by commas")
    parser.add_argument("--exact", default="", help="objectives that are counted, not measured, joined by commas")
    parser.add_argument("--reference", default="worst", choices=("worst", "nadir"))
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of the files of the built-in problems")
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1, help="searches at a time, one thread each")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    with_table = given.table != Path()
    if with_table and not (given.choices and given.objectives):
        parser.error("a table is read by its columns: add --choices COLUMN,... and --objectives COLUMN:min,COLUMN:max,...")
    if with_table and not given.table.exists():
        parser.error(f"a table is a Parquet file: there is none at {given.table}")
    names = list(given.problems if given.problems is not None else () if with_table else built_in)
    names += ["table"] if with_table else []
    at = [n for n in AT if n <= given.evaluations] or [given.evaluations]
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # of the processes to come
    sources: dict[str, tuple[str, Path, str, Path, str, str, str]] = {}
    tasks: dict[str, dict[str, list[Future[dict[str, object]]]]] = {}
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for name in names:
            needed = given.table if name == "table" else given.shared
            if not needed.exists():
                print(f"skipped {name}: {needed} is not there; name the folder with --shared")
                continue
            sources[name] = (name, given.shared, given.reference, given.table, given.choices, given.objectives, given.exact)
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for name, source in sources.items():
                for searcher in given.searchers:
                    run = pool.submit(_run, source, searcher, seed, given.evaluations, given.batch)
                    tasks.setdefault(name, {}).setdefault(searcher, []).append(run)
        results = {}
        for name, searchers in tasks.items():
            rows = summarise({searcher: [run.result() for run in runs] for searcher, runs in searchers.items()}, at)
            print(f"\n{name}: hypervolume, mean of {given.seeds} seeds ± half of the 95 % interval of the mean")
            show(rows, at)
            results[name] = rows
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
