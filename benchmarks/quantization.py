"""Is a search over architecture and precision together better than either alone?

Two jobs search one trained supernet with the same number of evaluations: one in fp32, one with the precision of every block as
part of the architecture. The fp32 front is then quantized uniformly. Every point is measured alike: its own ONNX file, the test
split, ONNX Runtime on the job's first device. Printed are the three fronts' hypervolumes in Δm (the mean relative change of the
tasks' metrics against single-task twins) and latency, what no front of this supernet can exceed (the best quality that was
measured at the least latency that was), and how much faster a network of the joint front is than the fastest fp32 network that
is at least as good within 0.5 %.

    python benchmarks/quantization.py --store sqlite:///nas.db --job JOB --json quantization.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hw_profiles.devices import fingerprint, load_device
from hw_profiles.timing import LatencyMeter
from nas.core import (
    ArchConfig,
    JobId,
    Objective,
    QuantizationSpec,
    SearchSpec,
    Stage,
    hypervolume,
    pareto_mask,
    policy_of,
    with_policy,
)
from nas.service import api
from nas.service.candidates import CandidateFiles, file_metrics
from nas.service.job_data import job_data
from nas.service.workers import job_evaluator
from nas.store import SqlStore, open_store
from nas.supernet import blocks
from nas.tasks import KINDS
from nas.tasks.delta import delta_m

EQUAL = 0.005  # relative: metrics this near are called equal


@dataclass(frozen=True)
class Point:
    """A measured network.

    Attributes:
        quality: 1 + Δm, higher is better: 1 is as good as the twins.
        ms: Latency.
    """

    key: str
    quality: float
    ms: float
    quantized: int


def search(store: SqlStore, trained: JobId, given: argparse.Namespace, quantized: bool) -> JobId:
    """Run a job on the supernet of `trained` and return its id; one that this benchmark has run before is taken as it is."""
    spec = store.job(trained).spec
    name = f"{spec.name}, {'joint' if quantized else 'fp32'}, {given.evaluations} evaluations, repetition {given.repetition}"
    for record in store.jobs():
        if record.spec.name == name and record.spec.training.reuse == trained:
            if record.state != "done":
                api.run(store, record.id)
            return record.id
    job = api.create(
        store,
        replace(
            spec,
            name=name,
            objectives=(Objective("delta_m", "max"), Objective(f"latency_ms@{load_device(spec.devices[0]).name}")),
            training=replace(spec.training, reuse=trained),
            search=SearchSpec(evaluations=given.evaluations, workers=given.workers, verify=given.verify),
            quantization=QuantizationSpec(search=quantized),
        ),
    )
    api.run(store, job)
    return job


class Meter:
    """Measures any architecture of a trained supernet as the verify stage does."""

    def __init__(self, store: SqlStore, trained: JobId) -> None:
        self.job, self.spec = trained, store.job(trained).spec
        self.data = job_data(self.spec)
        self.evaluator = job_evaluator(self.spec, store.folder(trained), self.data)
        self.files = CandidateFiles(self.spec, self.data, store.folder(trained))
        self.twins = store.stages(trained)[Stage.TWINS].result["test"]
        device = load_device(self.spec.devices[0])
        meter = LatencyMeter(device)
        reference_ms = store.reference_ms(device.name, fingerprint(device).key, meter.calibrate())
        self.meter = LatencyMeter(device, reference_ms)

    def point(self, arch: ArchConfig) -> Point:
        """Return what an architecture measures."""
        content = self.files.content(self.evaluator.module(arch), arch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(content)
            metrics = file_metrics(path, self.data, self.data.test)
            ms = self.meter.measure_thoroughly(path).ms
        return Point(arch.key, 1 + delta_m(metrics, self.twins, self.data.tasks, KINDS) / 100, ms, _quantized(arch))


def verified(store: SqlStore, job: JobId) -> list[tuple[ArchConfig, Point]]:
    """Return what a job measured of its best candidates."""
    latency = f"latency_ms@{load_device(store.job(job).spec.devices[0]).name}"
    rows = [row for row in store.evaluations(job, "verify") if not row.failure]
    qualities = [1 + row.metrics["delta_m"] / 100 for row in rows]
    return [
        (row.arch, Point(row.arch.key, quality, row.metrics[latency], _quantized(row.arch)))
        for row, quality in zip(rows, qualities, strict=True)
    ]


def volume(points: Sequence[Point], worst: Point, slowest: Point) -> float:
    """Return the hypervolume up to the quality of the smallest fp32 network and the latency of the largest one."""
    values = np.array([[-point.quality, point.ms] for point in points])
    return hypervolume(values, np.array([-worst.quality, slowest.ms]))


def speed_ups(joint: Sequence[Point], floats: Sequence[Point]) -> list[tuple[float, Point, Point]]:
    """Return, for each joint point, how much faster it is than the fastest fp32 point at least as good within `EQUAL`."""
    found = []
    for point in joint:
        equal = [other for other in floats if other.quality >= point.quality * (1 - EQUAL)]
        if equal:
            fastest = min(equal, key=lambda other: other.ms)
            found.append((fastest.ms / point.ms, point, fastest))
    return sorted(found, key=lambda row: -row[0])


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other dominates, the fastest first."""
    mask = pareto_mask(np.array([[-point.quality, point.ms] for point in points]))
    return sorted((point for point, on in zip(points, mask, strict=True) if on), key=lambda point: point.ms)


def _quantized(arch: ArchConfig) -> int:
    return sum(precision != "fp32" for precision in policy_of(arch).values())


def main() -> None:
    """Run, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=None, help="URL of the store that holds the trained job")
    parser.add_argument("--job", default=None, help="a job with a trained supernet and twins")
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--verify", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetition", type=int, default=0, help="repetitions differ by the noise of latency alone")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if given.job is None:
        print("skipped: give a job with a trained supernet and twins with --job, such as one of examples/nyuv2.yaml")
        return
    torch.set_num_threads(1)
    store = open_store(given.store)
    trained = store.job(given.job).id
    floats = verified(store, search(store, trained, given, quantized=False))
    joint = [point for _, point in verified(store, search(store, trained, given, quantized=True))]
    meter = Meter(store, trained)
    space = meter.evaluator.supernet.definition.space
    names = [block.name for block in blocks(meter.evaluator.supernet.definition.super_module())]
    smallest, largest = meter.point(space.smallest()), meter.point(space.largest())
    uniform = []
    for arch, point in floats:
        uniform.append(meter.point(with_policy(arch, dict.fromkeys(names, "int8"))))
        print(
            f"{point.key}  fp32 {point.ms:.2f} ms {point.quality:.4f}   int8 {uniform[-1].ms:.2f} ms {uniform[-1].quality:.4f}"
        )
    plain = [point for _, point in floats]
    volumes = {
        name: volume(points, smallest, largest)
        for name, points in (("fp32", plain), ("uniform int8", uniform), ("joint", joint))
    }
    print(f"\nreference: quality of the smallest {smallest.quality:.4f}, latency of the largest {largest.ms:.2f} ms")
    measured = [*plain, *uniform, *joint]
    best, fastest = max(p.quality for p in measured), min(p.ms for p in measured)
    volumes["best at once"] = (best - smallest.quality) * (largest.ms - fastest)
    for name, value in volumes.items():
        print(f"{name:14s} hypervolume {value:.4f}   joint is {volumes['joint'] / value - 1:+.1%} above")
    ups = speed_ups(joint, [*plain, largest, smallest])
    for ratio, point, other in ups[:5]:
        pair = f"{point.ms:.2f} ms at {point.quality:.4f} against {other.ms:.2f} ms at {other.quality:.4f}"
        print(f"{ratio:.2f} times as fast: {pair}")
    for point in front(joint):
        print(f"joint front: {point.ms:.2f} ms  {point.quality:.4f}  {point.quantized} of {len(names)} blocks quantized")
    if given.json:
        numbers = {"fp32": plain, "uniform": uniform, "joint": joint, "smallest": [smallest], "largest": [largest]}
        rows = {name: [asdict(point) for point in points] for name, points in numbers.items()}
        given.json.write_text(
            json.dumps({"points": rows, "hypervolume": volumes, "speed_up": ups[0][0] if ups else None}, indent=1)
        )


if __name__ == "__main__":
    main()
