"""How well control after training keeps budgets and follows preferences, on a job whose supernet is trained and searched.

Budgets are drawn evenly on the logarithmic scale between the smallest and the largest latency of the job's first device,
preferences evenly from the simplex. Every subnet that is answered is measured under ONNX Runtime. Its score is compared with
the best, by prediction, of 2,000 random subnets within the same budget; for some pairs both are also evaluated on the
validation images. Also counted: for how many preferences a wider budget narrows a decoder or lowers the score. What was
measured is kept in the JSON file after each subnet, so that a run that was stopped goes on.

    python benchmarks/control.py --store nas.db --job latest --json control.json
    python benchmarks/control.py --store nas.db --job latest --json control.json --measured 20
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw_profiles.devices import fingerprint, load_device
from hw_profiles.timing import LatencyMeter
from nas.core import ArchConfig, JobId, Objective
from nas.core.control import Controlled, ControlTable
from nas.search.controllability import budgets, controllability
from nas.service.candidates import CandidateFiles
from nas.service.control import control_table
from nas.service.job_data import job_data
from nas.service.workers import EvalWorker, job_definition
from nas.store import SqlStore, open_store

RANDOM_SUBNETS = 2_000
NESTED = 2_000  # preferences under two budgets each

Pair = tuple[Objective, dict[str, float]]


def draw_pairs(table: ControlTable, metric: str, count: int, rng: np.random.Generator) -> list[Pair]:
    """Return random budgets with random preferences."""
    low, high = table.range_of(metric)
    limits = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return [
        (Objective(metric, "min", float(limit)), dict(zip(table.tasks, row.tolist(), strict=True)))
        for limit, row in zip(limits, rng.dirichlet(np.ones(len(table.tasks)), count), strict=True)
    ]


def best_random(table: ControlTable, pair: Pair, rng: np.random.Generator) -> Controlled | None:
    """Return the best of random subnets within the budget, by prediction; None where none of them is within."""
    (budget, preference), tasks = pair, len(table.tasks)
    shares, cost = table.shares(preference), table.costs[pair[0].metric]
    encoders = rng.integers(len(table.encoders), size=RANDOM_SUBNETS)
    widths = rng.integers(len(table.widths), size=(RANDOM_SUBNETS, tasks))
    columns = np.ravel_multi_index(tuple(widths.T), (len(table.widths),) * tasks)
    fits = np.flatnonzero(cost.predicted[encoders, columns] * (1 + cost.margin) <= (budget.limit or 0.0))
    if not len(fits):
        return None
    errors = np.array([table.errors[task, encoders, widths[:, task]] for task in range(tasks)])
    best = int(fits[((shares / table.largest) @ errors)[fits].argmin()])
    return table.subnet(int(encoders[best]), tuple(int(n) for n in widths[best]), shares)


def nested(table: ControlTable, metric: str, rng: np.random.Generator) -> dict[str, float]:
    """Return how often a wider budget narrows a decoder or lowers the score, and by how much at worst."""
    narrowed, lowered, worst = 0, 0, 0.0
    for (budget, preference), (other, _) in zip(
        draw_pairs(table, metric, NESTED, rng), draw_pairs(table, metric, NESTED, rng), strict=True
    ):
        small, large = sorted((budget, other), key=lambda one: one.limit or 0.0)
        before, after = (table.control(one, preference).score for one in (small, large))
        widths = zip(table.decoders(small, preference), table.decoders(large, preference), strict=True)
        narrowed += any(b < a for a, b in widths)
        lowered += after > before + 1e-9
        worst = max(worst, after / before - 1)
    return {"preferences": NESTED, "narrowed": narrowed, "score_lowered": lowered, "worst_loss": worst}


def measure_latency(
    store: SqlStore, job: JobId, archs: Sequence[ArchConfig], known: dict[str, float], keep: Path | None
) -> None:
    """Measure every architecture that `known` lacks, and write what is known after each."""
    spec = store.job(job).spec
    data, device = job_data(spec), load_device(spec.devices[0])
    definition = job_definition(spec, data)
    files = CandidateFiles(spec, data, store.folder(job))
    meter = LatencyMeter(device)
    meter = LatencyMeter(device, store.reference_ms(device.name, fingerprint(device).key, meter.calibrate()))
    left = [arch for arch in {arch.key: arch for arch in archs}.values() if arch.key not in known]
    for count, arch in enumerate(left, 1):
        content = files.untrained(definition.build(arch).eval(), [arch])[0]
        known[arch.key] = meter.measure_thoroughly(content).ms
        if keep:
            keep.write_text(json.dumps({"job": job, "latency_ms": known}))
        print(f"\r{count} of {len(left)} subnets measured", end="", flush=True)
    print()


def measured_scores(
    store: SqlStore, job: JobId, table: ControlTable, pairs: Sequence[Pair], chosen: Sequence[tuple[Controlled, Controlled]]
) -> dict[str, Any]:
    """Return measured scores of answers and of the best random subnets, relative to the largest subnet as measured."""
    spec = store.job(job).spec
    worker, seen = EvalWorker(spec, store.folder(job), torch.get_num_threads()), dict[str, Mapping[str, float]]()

    def errors(arch: ArchConfig) -> np.ndarray[Any, np.dtype[np.float64]]:
        if arch.key not in seen:
            seen[arch.key] = worker.evaluate(arch, "val")
        return np.array([seen[arch.key][f"error.{task}"] for task in table.tasks])

    largest = errors(job_definition(spec, job_data(spec)).space.largest())
    rows = []
    for (_, preference), (answer, random) in zip(pairs, chosen, strict=True):
        shares = table.shares(preference)
        rows.append([float(shares @ (errors(one.arch) / largest)) for one in (answer, random)])
    ratios = np.array(rows)[:, 0] / np.array(rows)[:, 1] - 1
    return {"pairs": len(rows), "scores": rows, "mean": float(ratios.mean()), "worst": float(ratios.max())}


def run(store: SqlStore, job: JobId, given: argparse.Namespace) -> dict[str, Any]:
    """Return every number."""
    start = time.perf_counter()
    table = control_table(store, job)
    made_s = time.perf_counter() - start
    metric = f"latency_ms@{load_device(store.job(job).spec.devices[0]).name}"
    pairs = draw_pairs(table, metric, given.pairs, np.random.default_rng([given.seed, 0]))
    start = time.perf_counter()
    answers = [table.control(budget, preference) for budget, preference in pairs]
    answer_ms = 1e3 * (time.perf_counter() - start) / max(1, len(pairs))
    rng = np.random.default_rng([given.seed, 1])
    others = [best_random(table, pair, rng) for pair in pairs]
    ratios = np.array([a.score / b.score - 1 for a, b in zip(answers, others, strict=True) if b is not None])
    result: dict[str, Any] = {
        "job": job,
        "seed": given.seed,
        "table": {"seconds": made_s, "encoders": len(table.encoders), "errors_off": table.off.tolist()},
        "cost": {"margin": table.costs[metric].margin, "off": table.costs[metric].off},
        "regret": table.steps[metric].regret,
        "answer_ms": answer_ms,
        "against_random": {
            "pairs": len(ratios),
            "mean": float(ratios.mean()),
            "worst": float(ratios.max()),
            "at_least_as_good": float((ratios <= 1e-9).mean()),
        },
        "nested": nested(table, metric, np.random.default_rng([given.seed, 2])),
        "controllability": [
            {
                "budget": bound.limit,
                "hypervolume": found.hypervolume,
                "uniformity": found.uniformity,
                "score": found.score,
            }
            for bound in budgets(table, metric)
            for found in [controllability(table, bound, np.random.default_rng([given.seed, 3]))]
        ],
    }
    if not given.no_latency:
        former = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
        known = dict(former.get("latency_ms", {})) if former.get("job") == job else {}
        measure_latency(store, job, [one.arch for one in answers], known, given.json)
        excess = np.array(
            [known[a.arch.key] / (budget.limit or 0.0) - 1 for (budget, _), a in zip(pairs, answers, strict=True)]
        )
        used = [known[a.arch.key] / a.metrics[metric] - 1 for a in answers]
        result["latency_ms"] = known
        result["budget"] = {
            "pairs": len(excess),
            "distinct": len({a.arch.key for a in answers}),
            "within": float((excess <= 0).mean()),
            "worst_excess": float(excess.max()),
            "mean_used": float(1 + excess.mean()),
            "prediction_off_mean": float(np.mean(used)),
            "prediction_off_rms": float(np.sqrt(np.mean(np.square(used)))),
        }
    some = [(pair, a, b) for pair, a, b in zip(pairs, answers, others, strict=True) if b is not None][: given.measured]
    if some:
        result["measured"] = measured_scores(store, job, table, [p for p, _, _ in some], [(a, b) for _, a, b in some])
    return result


def report(result: Mapping[str, Any]) -> None:
    """Print the table."""
    table, random, nest = result["table"], result["against_random"], result["nested"]
    print(f"table of {table['encoders']} encoders in {table['seconds']:.1f} s; {result['answer_ms']:.2f} ms an answer")
    print("errors of tasks predicted within (rms) " + ", ".join(f"{off:.1%}" for off in table["errors_off"]))
    print(f"latency predicted within (rms) {result['cost']['off']:.1%}, margin {result['cost']['margin']:.1%}")
    if "budget" in result:
        kept = result["budget"]
        print(
            f"{kept['pairs']} pairs, {kept['distinct']} subnets: {kept['within']:.1%} within budget as measured, worst excess "
            f"{kept['worst_excess']:+.1%}, {kept['mean_used']:.1%} of the budget used; measured over predicted "
            f"{kept['prediction_off_mean']:+.1%} on average (rms {kept['prediction_off_rms']:.1%})"
        )
    print(
        f"score against the best of {RANDOM_SUBNETS} random subnets within the budget, predicted: {random['mean']:+.2%} on "
        f"average, worst {random['worst']:+.2%}, at least as good in {random['at_least_as_good']:.0%} of {random['pairs']}"
    )
    if "measured" in result:
        some = result["measured"]
        print(f"the same of {some['pairs']} pairs, measured: {some['mean']:+.2%} on average, worst {some['worst']:+.2%}")
    print(f"score lost by the steps against free decoders: {result['regret']:.4f}")
    print(
        f"of {nest['preferences']} wider budgets, {nest['narrowed']} narrow a decoder and {nest['score_lowered']} lower the "
        f"score, by {nest['worst_loss']:.3%} at worst"
    )
    titles = ("budget ms", "hypervolume", "one width", "uniformity", "one width", "score", "one width")
    print("".join(f"{title:>12s}" for title in titles))
    for row in result["controllability"]:
        cells = [*row["hypervolume"], *row["uniformity"], *row["score"]]
        print(f"{row['budget']:12.2f}" + "".join(f"{cell:>12.4g}" for cell in cells))


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=None, help="database; default: NAS_STORE, else your data folder")
    parser.add_argument("--job", default="latest")
    parser.add_argument("--pairs", type=int, default=200, help="budgets with preferences")
    parser.add_argument("--measured", type=int, default=0, help="pairs whose scores are measured too, on the validation images")
    parser.add_argument("--no-latency", action="store_true", help="measure no latency")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="where to write every number; read again by a further run")
    given = parser.parse_args()
    store = open_store(given.store, create=False)
    result = run(store, store.job(given.job).id, given)
    report(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
