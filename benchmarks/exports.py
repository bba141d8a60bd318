"""Exports every point of a job's front and measures each file once more: distance from torch, latency against the stored one.

python benchmarks/exports.py --store nas.db --job latest --out exported --json exports.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from hw_profiles.devices import fingerprint, load_device
from hw_profiles.timing import LatencyMeter
from nas.core import ExportError, UserError, front
from nas.service import api
from nas.store import open_store


def main() -> None:
    """Export, measure, print a row per file and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=None, help="database of the job; default: NAS_STORE, else the user's own")
    parser.add_argument("--job", default="latest")
    parser.add_argument("--out", type=Path, default=Path("exported"))
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    try:
        store = open_store(given.store, create=False)
        job = store.job(given.job)
    except UserError as error:
        print(f"skipped: {error}")
        return
    device = load_device(job.spec.devices[0])
    metric = f"latency_ms@{device.name}"
    meter = LatencyMeter(device)
    meter = LatencyMeter(device, store.reference_ms(device.name, fingerprint(device).key, meter.calibrate()))
    rows = []
    for point in front(store.evaluations(job.id, "verify"), job.spec.objectives):
        stored = point.metrics[metric]
        try:
            path = api.export(store, job.id, key=point.arch.key, limits=[], preference=None, out=given.out)
        except ExportError as error:
            print(f"{point.arch.key}  refused: {error}", flush=True)
            rows.append({"key": point.arch.key, "stored_ms": stored, "refused": str(error)})
            continue
        apart = max(json.loads(path.with_suffix(".json").read_text())["checks"]["max_difference_onnxruntime_torch"].values())
        again = meter.measure_thoroughly(path).ms
        rows.append({"key": point.arch.key, "stored_ms": stored, "again_ms": again, "difference": apart})
        print(
            f"{point.arch.key}  {stored:7.3f} ms stored  {again / stored - 1:+7.1%} again  {apart:.1e} from torch", flush=True
        )
    good = [row for row in rows if "again_ms" in row]
    if good:
        shifts = np.abs([float(row["again_ms"]) / float(row["stored_ms"]) - 1 for row in good])
        print(
            f"\n{len(good)} of {len(rows)} exported, at most {max(float(row['difference']) for row in good):.1e} from torch; "
            f"latency again within 10 %: {(shifts <= 0.1).sum()} of {len(good)} "
            f"(median {np.median(shifts):.1%}, worst {shifts.max():.1%})"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
