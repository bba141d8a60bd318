"""How well does measuring a latency again give the same? Estimators of one and the same runs, side by side.

Random networks of the space of ``examples/nyuv2.yaml``, in fp32 and all in ``int8``, are measured in turn, several times.
All runs are kept, and every estimator is computed from them: the network's median time alone, wall and CPU; the same over
the reference network's median; the fastest run over the reference network's fastest, in CPU time and, as `hw_profiles.timing`
takes it, in wall time.
Printed is the coefficient of variation of repeated measurements, on average over the networks, and how far a measurement is
from the median of its network at most.

    python benchmarks/repeatability.py --json repeatability.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from hw_profiles.devices import load_device
from hw_profiles.timing import LatencyMeter, Turn
from nas.core import FloatArray, InputSpec, Latency, Task
from nas.export import Exporter, quantize
from nas.supernet import blocks
from search_spaces import make_space

TASKS = (Task("seg", "segmentation", 13), Task("depth", "depth", 1), Task("normals", "normals", 3))
INPUT = InputSpec(3, 96, 128, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
OPTIONS = {"channels": [16, 32, 64, 128], "decoder_channels": 32}


class RecordingMeter(LatencyMeter):
    """A meter that keeps every turn of its last measurement."""

    turns: Sequence[Turn] = ()

    def _latency(self, turns: Sequence[Turn], ratio: float, spread: float, noisy: bool, reference_ms: float) -> Latency:
        self.turns = turns
        return super()._latency(turns, ratio, spread, noisy, reference_ms)


def _every(turns: Sequence[Turn], which: int, wall: bool) -> FloatArray:
    return np.concatenate([turn[which].wall_ms if wall else turn[which].cpu_ms for turn in turns])


ESTIMATORS: dict[str, Callable[[Sequence[Turn]], float]] = {
    "median wall time": lambda turns: float(np.median(_every(turns, 0, True))),
    "median CPU time": lambda turns: float(np.median(_every(turns, 0, False))),
    "ratio of median wall times": lambda turns: float(np.median(_every(turns, 0, True)) / np.median(_every(turns, 1, True))),
    "ratio of median CPU times": lambda turns: float(np.median(_every(turns, 0, False)) / np.median(_every(turns, 1, False))),
    "ratio of the fastest CPU times": lambda turns: float(_every(turns, 0, False).min() / _every(turns, 1, False).min()),
    "ratio of the fastest wall times": lambda turns: float(_every(turns, 0, True).min() / _every(turns, 1, True).min()),
}


def files(networks: int, seed: int) -> dict[str, bytes]:
    """Return random networks with random weights as ONNX files, each in fp32 and in ``int8``."""
    definition = make_space("slimmable", OPTIONS, TASKS, INPUT)
    rng = np.random.default_rng(seed)
    images = rng.random((4, 3, INPUT.height, INPUT.width), dtype=np.float32)
    found = {}
    exporter = Exporter(INPUT, TASKS)
    for index in range(networks):
        module = definition.build(definition.space.sample(rng)).eval()
        model = exporter.model(module)
        found[f"fp32 {index}"] = model.SerializeToString()
        policy = {block.name: "int8" for block in blocks(module)}
        found[f"int8 {index}"] = quantize(model, policy, images).SerializeToString()  # type: ignore[arg-type]
    return found


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thoroughly", action="store_true", help="as what is shown is measured, not as what is learned from")
    parser.add_argument("--device", default="local")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    torch.set_num_threads(1)
    meter = RecordingMeter(load_device(given.device))
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ESTIMATORS}
    models = files(given.networks, given.seed)
    for _ in range(given.repeats):
        for name, content in models.items():
            meter.turns = ()
            if given.thoroughly:
                meter.measure_thoroughly(content)
            else:
                meter.measure(content)
            for estimator, of_turns in ESTIMATORS.items():
                found[estimator].setdefault(name, []).append(of_turns(meter.turns))
    print(f"{'':38s}{'fp32 varies':>12s}{'at most':>9s}{'int8 varies':>13s}{'at most':>9s}")
    for estimator, rows in found.items():
        cells = ""
        for kind in ("fp32", "int8"):
            values = np.array([row for name, row in rows.items() if name.startswith(kind)])
            off = np.abs(values / np.median(values, axis=1, keepdims=True) - 1).max()
            cells += f"{np.mean(values.std(axis=1, ddof=1) / values.mean(axis=1)):12.1%}{off:9.1%} "
        print(f"{estimator:38s}{cells}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
