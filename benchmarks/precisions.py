"""What does each block save and lose in 8 bits, alone and left out of a network that is otherwise in 8 bits?

A trained job's networks of the smallest, of small and of the largest widths, under every policy of one block in ``int8``, of
all blocks but one, and of all: milliseconds under ONNX Runtime on the job's first device, bytes, and the change of each task's
error on the validation split.

    python benchmarks/precisions.py --store sqlite:///nas.db --job JOB --json precisions.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from hw_profiles.devices import load_device
from hw_profiles.timing import LatencyMeter
from nas.core import ArchConfig, Precision, SearchSpace, UserError, with_policy
from nas.export import weight_bytes
from nas.service.candidates import CandidateFiles, file_metrics
from nas.service.job_data import job_data
from nas.service.workers import job_evaluator
from nas.store import open_store
from nas.supernet import blocks

SIZES = {"smallest": 0.0, "small": 1 / 3, "largest": 1.0}  # where in the options of each width


@dataclass(frozen=True)
class Row:
    """What was measured of one network under one policy.

    Attributes:
        size: Of the network: smallest, small or largest.
        policy: In words.
        seconds: To make the file from the network, quantization included.
        lost: Task to relative change of its error against the same network in fp32.
    """

    size: str
    policy: str
    ms: float
    spread: float
    faster: float
    bytes: int
    seconds: float
    lost: dict[str, float]


def network(space: SearchSpace, at: float) -> ArchConfig:
    """Return the network with every width at a share of its options, and all else at its largest."""
    return space.arch(
        {
            choice.name: choice.options[round(at * (len(choice.options) - 1)) if "width" in choice.name else -1]
            for choice in space.choices
        }
    )


def main() -> None:
    """Measure and print a row per network and policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=None, help="database of the job; default: NAS_STORE, else the user's own")
    parser.add_argument("--job", default="latest", help="a job whose supernet is trained")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    try:
        store = open_store(given.store, create=False)
        job = store.job(given.job)
    except UserError as error:
        print(f"skipped: {error}")
        return
    torch.set_num_threads(1)
    data = job_data(job.spec)
    evaluator = job_evaluator(job.spec, job.folder, data)
    files = CandidateFiles(job.spec, data, job.folder)
    definition = evaluator.supernet.definition
    names = [block.name for block in blocks(definition.super_module())]
    policies: dict[str, dict[str, Precision]] = {"fp32": {}, "all": dict.fromkeys(names, "int8")}
    policies |= {f"{name} alone": {name: "int8"} for name in names}
    policies |= {f"all but {name}": {other: "int8" for other in names if other != name} for name in names}
    meter = LatencyMeter(load_device(job.spec.devices[0]))
    rows: list[Row] = []
    for size in given.sizes:
        arch = network(definition.space, SIZES[size])
        module = evaluator.module(arch)
        floats: dict[str, float] = {}
        for policy, precisions in policies.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                started = time.perf_counter()
                path.write_bytes(files.content(module, with_policy(arch, precisions)))
                seconds = time.perf_counter() - started
                metrics = file_metrics(path, data, data.val)
                latency = meter.measure(path)
                errors = {task.name: metrics[f"error.{task.name}"] for task in data.tasks}
                floats = floats or {**errors, "ms": latency.ms}
                lost = {task: error / floats[task] - 1 for task, error in errors.items()}
                faster = floats["ms"] / latency.ms
                rows.append(Row(size, policy, latency.ms, latency.spread, faster, weight_bytes(path), seconds, lost))
            row = rows[-1]
            changes = "  ".join(f"{task} {100 * share:+.2f} %" for task, share in row.lost.items())
            print(f"{size:9}{policy:26}{row.ms:8.3f} ms  x{row.faster:.2f}  {row.bytes:>10,} bytes  {changes}", flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
