"""Hypervolume of each searcher against evaluations, on a table of real evaluations of once-for-all MobileNetV3 subnets.

The benchmark module (space, surrogate and reference point are described in it) is not part of this repository: give its path,
or keep it at the default. Without it this benchmark says so and ends.

    python benchmarks/search.py --searchers predictor tpe --seeds 3 --json search.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path

import numpy as np

from nas.core import ArchConfig, Choice, Evaluation, Objective, SearchSpace, Source
from nas.search import SEARCHERS, make_searcher

MODULE = Path(__file__).resolve().parents[2] / "shared/benchmarks/ofa_mbv3_surrogate.py"
OBJECTIVES = (Objective("error.imagenet"), Objective("macs"))
AT = (50, 100, 150, 200, 250, 300)


def space() -> SearchSpace:
    """Return 5 depths, and a kernel size and an expansion for each layer that the depths leave active."""
    choices = [Choice(f"stage{s}.depth", (2, 3, 4)) for s in range(5)]
    for layer in range(20):
        stage, position = divmod(layer, 4)
        condition = (f"stage{stage}.depth", tuple(d for d in (2, 3, 4) if d > position)) if position >= 2 else None
        choices.append(Choice(f"layer{layer:02d}.kernel", (3, 5, 7), condition))
        choices.append(Choice(f"layer{layer:02d}.expansion", (3, 4, 6), condition))
    return SearchSpace("ofa_mbv3", choices)


def config(arch: ArchConfig) -> dict[str, list[int]]:
    """Return the architecture as the surrogate spells it; inactive layers get any valid value."""
    return {
        "ks": [int(arch.get(f"layer{i:02d}.kernel", 3)) for i in range(20)],
        "e": [int(arch.get(f"layer{i:02d}.expansion", 3)) for i in range(20)],
        "d": [int(arch[f"stage{s}.depth"]) for s in range(5)],
    }


def main() -> None:
    """Run, print one line per searcher and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", type=Path, default=MODULE, help="path of the benchmark module")
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if not given.module.exists():
        print(f"skipped: {given.module} is not there; give the benchmark module with --module")
        return
    spec = importlib.util.spec_from_file_location("surrogate", given.module)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    surrogate, searched = bench.Surrogate(), space()

    def macs(archs: list[ArchConfig]) -> np.ndarray:
        return surrogate._macs.predict(np.array([bench._joint(config(arch)) for arch in archs]))

    at = [n for n in AT if n <= given.evaluations]
    print(f"{'searcher':12s}" + "".join(f"{n:>14d}" for n in at) + f"{'s':>8s}{'max ask s':>11s}")
    results = []
    for name in given.searchers:
        curves, seconds, slowest = [], [], 0.0
        for seed in range(given.seeds):
            searcher = make_searcher(name, searched, OBJECTIVES, seed, {"macs": macs})
            values, start = np.empty((0, 2)), time.perf_counter()
            while len(values) < given.evaluations:
                began = time.perf_counter()
                archs = searcher.ask(given.batch)
                slowest = max(slowest, time.perf_counter() - began)
                found = surrogate.evaluate([config(arch) for arch in archs])
                metrics = [{"macs": row[0], "error.imagenet": row[1]} for row in found]
                searcher.tell([Evaluation(a, m, Source.MEASURED, "search") for a, m in zip(archs, metrics, strict=True)])
                values = np.concatenate([values, found])
            seconds.append(time.perf_counter() - start)
            # Beyond the ideal the module's sweep would subtract: what is better than the table's best counts as equal.
            curves.append([bench.hypervolume(np.maximum(values[:n], bench.IDEAL)) for n in at])
        mean, std = np.mean(curves, axis=0), np.std(curves, axis=0)
        cells = "".join(f"{m:>8.3f} ±{s:.3f}" for m, s in zip(mean, std, strict=True))
        print(f"{name:12s}{cells}{np.mean(seconds):>8.1f}{slowest:>11.2f}", flush=True)
        results.append(
            {"searcher": name, "evaluations": at, "hypervolume": curves, "seconds": seconds, "slowest_ask_s": slowest}
        )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
