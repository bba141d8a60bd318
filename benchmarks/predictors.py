"""Error and calibration of every predictor on tables of real measurements, from few training rows.

The built-in tables lie in a folder that is not part of this repository (--data); one that is absent is skipped with a
sentence. Any other table is a Parquet file with a column per choice:

    python benchmarks/predictors.py --json predictors.json
    python benchmarks/predictors.py --table mine.parquet --choices depth,kernel,width --target accuracy --counted macs
    python benchmarks/predictors.py --table mine.parquet --choices depth,kernel,width --devices phone_ms,board_ms,server_ms

Qualities are learned from 50, 100 and 200 random rows and predicted for rows that had no part in it. Devices are left out one
by one: 5, 10 or 20 measurements on the new one, chosen by the predictor, and the whole table of the others.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # times are those of one thread
# A script's folder comes first on the path, where this file hides the package of the same name: from the scripts beside it
# too, so that one that imports the package lands here and is given the package, which takes this module's place.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
sys.modules.pop("predictors", None)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from nas.core import Choice, DataError, FloatArray, SearchSpace  # noqa: E402
from predictors import PREDICTORS, Transfer, make_predictor  # noqa: E402
from predictors.features import architecture_features, summaries  # noqa: E402
from predictors.quality import quality  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / "shared/data/nas"
CEILING_SHARE = 0.8  # of a new device's rows that the best achievable correlation is learned from
LAYERS = 20  # of once-for-all MobileNetV3, four to a stage


@dataclass(frozen=True)
class Table:
    """Architectures with what was measured of them.

    Attributes:
        space: Choices, without conditions; an inactive choice has a row of zeros in `encoded`.
        encoded: Shape (n, width).
        targets: What to predict from few rows, each of shape (n,).
        counted: What can be counted exactly, each of shape (n,).
        devices: Latencies per device, each of shape (n,).
        other: Further features of a latency, shape (n, k), such as the resolution.
    """

    name: str
    space: SearchSpace
    encoded: FloatArray
    targets: dict[str, FloatArray] = field(default_factory=dict)
    counted: dict[str, FloatArray] = field(default_factory=dict)
    devices: dict[str, FloatArray] = field(default_factory=dict)
    other: FloatArray | None = None


def encode(name: str, picks: pd.DataFrame) -> tuple[SearchSpace, FloatArray]:
    """Return the space of the options that occur, in ascending order, and one-hot rows; a missing pick is inactive."""
    space = SearchSpace(name, [Choice(column, tuple(sorted(set(picks[column].dropna().tolist())))) for column in picks])
    blocks = [picks[c.name].to_numpy()[:, None] == np.array(c.options, dtype=object)[None, :] for c in space.choices]
    return space, np.hstack(blocks).astype(np.float64)


def ofa_picks(configs: Sequence[dict[str, list[int]]]) -> pd.DataFrame:
    """Return a depth per stage, and a kernel size and an expansion per active layer."""
    rows = []
    for config in configs:
        row: dict[str, float] = {f"stage{s}.depth": config["d"][s] for s in range(5)}
        for layer in range(LAYERS):
            active = layer % 4 < config["d"][layer // 4]
            row[f"layer{layer:02d}.kernel"] = config["ks"][layer] if active else np.nan
            row[f"layer{layer:02d}.expansion"] = config["e"][layer] if active else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def ofa_top1(data: Path) -> Table:
    """Read ImageNet accuracies and MACs of once-for-all MobileNetV3 subnets."""
    table = pd.read_parquet(data / "dynas_ofa_mbv3_imagenet.parquet").drop_duplicates("Sub-network", keep="last")
    picks = ofa_picks([ast.literal_eval(text) for text in table["Sub-network"]])
    macs = table["MACs"].to_numpy(float)
    return Table(
        "ofa_mbv3", *encode("ofa_mbv3", picks), targets={"top1": table["Top-1 Acc (%)"].to_numpy(float)}, counted={"macs": macs}
    )


def ofa_devices(data: Path) -> Table:
    """Read latencies of once-for-all MobileNetV3 subnets on twelve device settings."""
    table = pd.read_parquet(data / "ofa_mbv3_latency_help.parquet")
    configs = [json.loads(text) for text in table["arch_json"]]
    devices = {str(column): table[column].to_numpy(float) for column in table if column != "arch_json"}
    resolution = np.array([[config["r"], config["r"] ** 2] for config in configs], dtype=float)
    return Table("ofa_mbv3_devices", *encode("ofa_mbv3", ofa_picks(configs)), devices=devices, other=resolution)


def nasbench201(data: Path) -> Table:
    """Read the accuracies and latencies of all cells of NAS-Bench-201."""
    table = pd.read_parquet(data / "nasbench201_devices.parquet")
    operations = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")  # the cheapest first
    edges = [[operations.index(name) for name in re.findall(r"(\w+)~\d", text)] for text in table["arch_str"]]
    picks = pd.DataFrame(edges, columns=[f"edge{i}" for i in range(6)])
    raspi = table["hwnb_cifar100_raspi4_latency"].to_numpy(float)
    devices = {str(column): table[column].to_numpy(float) for column in table if "latency" in column or column.endswith("_ms")}
    accuracy = table["acc_cifar100_test_200ep"].to_numpy(float)
    return Table(
        "nasbench201", *encode("nasbench201", picks), targets={"cifar100": accuracy, "raspi4_ms": raspi}, devices=devices
    )


def transnas(data: Path) -> Table:
    """Read four tasks' scores of all micro cells of TransNAS-Bench-101."""
    table = pd.read_parquet(data / "transnas101_micro_4tasks.parquet")
    edges = [[int(digit) for digit in re.sub(r"^.*-.*-|_", "", text)] for text in table["arch"]]
    names = ("class_scene__valid_top1", "class_object__valid_top1", "segmentsemantic__valid_acc", "normal__valid_ssim")
    return Table(
        "transnas101",
        *encode("transnas101", pd.DataFrame(edges, columns=[f"edge{i}" for i in range(6)])),
        targets={name.split("__")[0]: table[name].to_numpy(float) for name in names},
        counted={"macs": table["encoder_conv_macs_256px"].to_numpy(float)},
    )


BUILT_IN: dict[str, tuple[str, Callable[[Path], Table]]] = {
    "ofa_mbv3": ("dynas_ofa_mbv3_imagenet.parquet", ofa_top1),
    "nasbench201": ("nasbench201_devices.parquet", nasbench201),
    "transnas101": ("transnas101_micro_4tasks.parquet", transnas),
    "ofa_mbv3_devices": ("ofa_mbv3_latency_help.parquet", ofa_devices),
}


def from_file(path: Path, choices: str, target: str, counted: str, devices: str) -> Table:
    """Read a table of the caller's. Rows in which a number is missing are left out, and so are repeated architectures."""
    table, names = pd.read_parquet(path), [name for name in choices.split(",") if name]
    wanted = {kind: [n for n in text.split(",") if n] for kind, text in zip("tcd", (target, counted, devices), strict=True)}
    numbers = [name for group in wanted.values() for name in group]
    absent = [name for name in [*names, *numbers] if name not in table]
    if absent or not names or not (wanted["t"] or wanted["d"]):
        raise DataError(
            f"--choices and --target or --devices name columns of {path}: {absent or 'none given'}; it has {list(table)}"
        )
    whole = table[np.isfinite(table[numbers].astype(float)).all(axis=1)].drop_duplicates(names)
    if len(whole) < len(table):
        print(f"{path}: {len(table) - len(whole)} of {len(table)} rows left out: a number is missing or a row repeats another")
    columns = {kind: {n: whole[n].to_numpy(float) for n in group} for kind, group in wanted.items()}
    return Table(path.stem, *encode(path.stem, whole[names]), targets=columns["t"], counted=columns["c"], devices=columns["d"])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % confidence interval (normal approximation)."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def few_rows(table: Table, names: Sequence[str], rows: Sequence[int], seeds: int, test_rows: int) -> list[dict[str, Any]]:
    """Fit to random rows and predict others, for every target, kind of features and predictor."""
    kinds = {
        "one-hots": table.encoded,
        "with sums": architecture_features(table.space, table.encoded),
    }
    if table.counted:
        kinds["with sums, " + ", ".join(table.counted)] = architecture_features(table.space, table.encoded, table.counted)
    found: list[dict[str, Any]] = []
    for target, truth in table.targets.items():
        for name in names:
            if name.startswith("log_") and not (truth > 0).all():
                continue
            for kind, features in kinds.items():
                for count in (n for n in rows if n < len(truth) - 1):
                    qualities, seconds = [], []
                    for seed in range(seeds):
                        order = np.random.default_rng(seed).permutation(len(truth))
                        train, test = order[:count], order[count:][: test_rows or None]
                        model = make_predictor(name)
                        start = time.thread_time()
                        model.fit(features[train], truth[train])
                        seconds.append(time.thread_time() - start)
                        qualities.append(quality(truth[test], *model.predict(features[test])))
                    row = {"table": table.name, "target": target, "predictor": name, "features": kind, "rows": count}
                    keys = ("kendall_tau", "spearman", "coverage_90", "mape")
                    found.append({**row, **{k: [q[k] for q in qualities] for k in keys}, "fit_s": seconds})
                    print_few_rows(found[-1])
    return found


def print_few_rows(row: dict[str, Any]) -> None:
    """Print the means over seeds."""
    cells = {k: spread(v) for k, v in row.items() if isinstance(v, list)}
    title = f"{row['table']}.{row['target']}"
    print(
        f"{title:28s}{row['predictor']!s:22s}{row['features']!s:18s}{row['rows']!s:>5s}"
        f"{cells['kendall_tau'][0]:9.3f} ±{cells['kendall_tau'][1]:.3f}{min(row['kendall_tau']):8.3f}"
        f"{cells['spearman'][0]:9.3f}{cells['coverage_90'][0]:8.2f}{cells['mape'][0]:8.3f}{cells['fit_s'][0]:7.2f}",
        flush=True,
    )


def ceiling(features: FloatArray, truth: FloatArray) -> float:
    """Return the Spearman correlation of gradient boosting on a fifth of the rows, fitted to the others: what noise leaves."""
    from scipy.stats import spearmanr
    from sklearn.ensemble import HistGradientBoostingRegressor

    order = np.random.default_rng(0).permutation(len(truth))
    train, test = np.split(order, [int(CEILING_SHARE * len(order))])
    model = HistGradientBoostingRegressor(max_iter=200, random_state=0).fit(features[train], np.log(truth[train]))
    return float(spearmanr(model.predict(features[test]), truth[test]).statistic)


def new_devices(table: Table, rows: Sequence[int], seeds: int, test_rows: int) -> list[dict[str, Any]]:
    """Leave each device out: Spearman and coverage from a few measurements on it."""
    names = list(table.devices)
    features = np.hstack([table.encoded, table.encoded @ summaries(table.space)])
    if table.other is not None:
        features = np.hstack([features, table.other])
    found: list[dict[str, Any]] = []
    for name in names:
        truth = table.devices[name]
        known = np.column_stack([table.devices[other] for other in names if other != name])
        transfer = Transfer(features, known)
        everything = transfer.rows(features, known)
        row: dict[str, Any] = {"table": table.name, "device": name, "ceiling": ceiling(everything, truth)}
        qualities: dict[int, list[dict[str, float]]] = {count: [] for count in rows}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            chosen = transfer.choose(max(rows), rng)  # the most telling first, so that fewer are the first of them
            test = np.setdiff1d(rng.permutation(len(truth))[: test_rows or None], chosen)
            for count in rows:
                transfer.fit(everything[chosen[:count]], truth[chosen[:count]])
                qualities[count].append(quality(truth[test], *transfer.predict(everything[test])))
        for count in rows:
            row[str(count)] = {key: [q[key] for q in qualities[count]] for key in ("spearman", "coverage_90", "within_10")}
        found.append(row)
        print_device(row, rows)
    for count in rows:
        means = [spread(row[str(count)]["spearman"])[0] for row in found]
        bounds = [float(row["ceiling"]) for row in found]
        print(
            f"{table.name}, {count} measurements: Spearman {np.mean(means):.3f} on average, {min(means):.3f} on the worst "
            f"device; the ceilings are {np.mean(bounds):.3f} and {min(bounds):.3f}",
            flush=True,
        )
    return found


def print_device(row: dict[str, Any], rows: Sequence[int]) -> None:
    """Print the means over seeds."""
    cells = []
    for count in rows:
        mean, half = spread(row[str(count)]["spearman"])
        cells.append(f"{mean:8.3f} ±{half:.3f}{np.mean(row[str(count)]['coverage_90']):7.2f}")
    print(f"{row['table']!s:18s}{row['device']!s:32s}{row['ceiling']:9.3f}" + "".join(cells), flush=True)


def main() -> None:
    """Run, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", nargs="*", default=None, choices=list(BUILT_IN), help="default: all, or none beside --table"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the built-in tables")
    parser.add_argument("--table", type=Path, default=None, help="a Parquet file with one row per architecture")
    parser.add_argument("--choices", default="", help="columns that pick the architecture, joined by commas")
    parser.add_argument("--target", default="", help="columns to predict from few rows, joined by commas")
    parser.add_argument("--counted", default="", help="columns that can be counted exactly, such as MACs")
    parser.add_argument("--devices", default="", help="columns of latencies, to be left out one by one")
    parser.add_argument("--predictors", nargs="+", default=list(PREDICTORS), choices=list(PREDICTORS))
    parser.add_argument("--rows", nargs="+", type=int, default=[50, 100, 200], help="training rows")
    parser.add_argument("--measurements", nargs="+", type=int, default=[5, 10, 20], help="on a new device")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--test-rows", type=int, default=1000, help="of the rows not trained on; 0 for all of them")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    tables: list[Table] = []
    for name in given.tables if given.tables is not None else ([] if given.table else BUILT_IN):
        file, load = BUILT_IN[name]
        if (given.data / file).exists():
            tables.append(load(given.data))
        else:
            print(f"skipped {name}: {given.data / file} is not there; give the folder with --data")
    if given.table and given.table.exists():
        tables.append(from_file(given.table, given.choices, given.target, given.counted, given.devices))
    elif given.table:
        print(f"skipped: {given.table} is not there")
    results: dict[str, list[dict[str, Any]]] = {"few_rows": [], "new_devices": []}
    if any(table.targets for table in tables):
        heads = f"{'tau':>9s}{'':7s}{'worst':>8s}{'spearman':>9s}{'cov.90':>8s}{'mape':>8s}{'fit s':>7s}"
        print(f"{'table.target':28s}{'predictor':22s}{'features':18s}{'rows':>5s}{heads}")
    for table in tables:
        results["few_rows"] += few_rows(table, given.predictors, given.rows, given.seeds, given.test_rows)
    if any(len(table.devices) > 1 for table in tables):
        heads = "".join(f"{f'from {n}':>15s}{'cov.90':>7s}" for n in given.measurements)
        print(f"{'table':18s}{'new device':32s}{'ceiling':>9s}{heads}")
    for table in tables:
        if len(table.devices) > 1:
            results["new_devices"] += new_devices(table, given.measurements, given.seeds, given.test_rows)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
