"""Error of predicted latencies under ONNX Runtime, on subnets that no predictor saw; prints tables, writes JSON.

    python benchmarks/latency.py --json latency.json
    python benchmarks/latency.py --reuse latency.json          # compare predictors without measuring again

The space is that of ``examples/nyuv2.yaml``: a slimmable encoder of 16 to 128 channels, three decoders, 96 x 128 pixels; the
weights are random, as they do not change a latency. `--train` subnets are drawn as a job draws them (spread over the range of
multiply-accumulates) and their operators timed; `--test` others are drawn at random. In the quantized part every subnet
carries a random policy, ``fp32`` or ``int8`` for each block, and what is measured is the quantized file; as in a job, the
operators of further networks under several policies each are listed, not timed, before the predictor is fitted. The last part
predicts networks of other spaces with the operators' times learned in fp32: the same space with twice the channels, and with
another size of input and other tasks.

Rows: ``gaussian process``, on the one-hots of the choices and the multiply-accumulates; ``operators of the graph``, the times
of the operators that ONNX Runtime was seen to run for that very network; ``operators by rule``, the same with the operators
that the rules learned from the training subnets expect, which takes microseconds; ``search``, which of the first and the third
a job would use, by their median error in cross-validation. A repeated measurement of twenty subnets says what no predictor
can beat.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw_profiles.devices import fingerprint, load_device
from hw_profiles.node_times import node_times
from hw_profiles.operators import operators
from hw_profiles.timing import LatencyMeter
from nas.core import ArchConfig, Device, FloatArray, InputSpec, Latency, Profile, Task
from nas.core.operator import Operator, OperatorTime
from nas.core.precision import policy_of
from nas.export import Exporter
from nas.export.quantize import quantize
from nas.service.stages.fit import best_latency, by_operators, gaussian_process
from nas.service.stages.listing import Listing, draw_policies
from nas.service.stages.profile import stratified_sample
from nas.supernet import SpaceDefinition
from predictors import from_state
from predictors.features import cost_features
from predictors.operator_latency import OperatorLatency
from predictors.quality import quality
from search_spaces import make_space
from search_spaces.precision import WithPrecision

TASKS = (Task("seg", "segmentation", 13), Task("depth", "depth", 1), Task("normals", "normals", 3))
INPUT = InputSpec(3, 96, 128, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
OPTIONS = {"channels": [16, 32, 64, 128], "decoder_channels": 32}
OTHER_TASKS = (Task("seg", "segmentation", 6), Task("place", "classification", 4))
OTHER_INPUT = InputSpec(3, 64, 96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ELSEWHERE = {
    "twice the channels": (TASKS, INPUT, {}),
    "64 x 96, two tasks": (OTHER_TASKS, OTHER_INPUT, {"channels": [24, 48, 96], "decoder_channels": 48}),
}
REPEATS = 20


@dataclass(frozen=True)
class Row:
    """One measured network."""

    arch: dict[str, Any]
    latency: dict[str, Any]
    operators: list[list[Any]]  # name, kind, type, input, other, output, ms
    again_ms: float | None = None

    @property
    def ms(self) -> float:
        """Latency in milliseconds."""
        return float(self.latency["ms"])

    def timed(self) -> tuple[OperatorTime, ...]:
        """Return the operators with their times."""
        return tuple(
            OperatorTime(Operator(name, kind, dtype, tuple(into), tuple(other), tuple(out)), ms)
            for name, kind, dtype, into, other, out, ms in self.operators
        )

    def profile(self) -> Profile:
        """Return what a job would have stored."""
        arch = ArchConfig(self.arch)
        return Profile(arch, "local", fingerprint(load_device("local")), Latency(**self.latency), {}, self.timed())


def files_of(definition: SpaceDefinition, archs: Sequence[ArchConfig], seed: int, images: int = 4) -> list[bytes]:
    """Return ONNX files of one network with random weights, quantized as the policy of each architecture says."""
    torch.manual_seed(seed)
    model = Exporter(definition.input, definition.tasks).model(definition.build(archs[0]).eval())
    shape = (images, definition.input.channels, definition.input.height, definition.input.width)
    pixels = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return [quantize(model, policy_of(arch), pixels).SerializeToString() for arch in archs]


def list_more(definition: SpaceDefinition, networks: int, device: Device, seed: int) -> Listing:
    """Return further architectures with their operators, as a job's fit stage does (`nas.service.stages.listing`)."""
    found: Listing = []
    for index, group in enumerate(draw_policies(definition.space, networks, np.random.default_rng([seed, 6]))):
        contents = files_of(definition, group, index, images=1)
        found += [(arch, operators(content, device)) for arch, content in zip(group, contents, strict=True)]
    return found


def untimed(content: bytes, device: Device) -> tuple[OperatorTime, ...]:
    """Return the operators of a network."""
    return tuple(OperatorTime(op, 0.0) for op in operators(content, device))


def measure(
    meter: LatencyMeter, definition: SpaceDefinition, archs: Sequence[ArchConfig], device: Device, train: int, note: str
) -> list[Row]:
    """Measure networks as a job does, and the operators of the first `train` of them."""
    rows = []
    start = time.perf_counter()
    for index, arch in enumerate(archs):
        (content,) = files_of(definition, [arch], index)
        latency = meter.measure(content)
        timed = node_times(content, device, latency.ms) if index < train else untimed(content, device)
        again = train <= index < train + REPEATS
        rows.append(
            Row(
                dict(arch),
                asdict(latency),
                [[*asdict(t.operator).values(), t.ms] for t in timed],
                meter.measure(content).ms if again else None,
            )
        )
        if index % 20 == 19:
            print(f"  {note}: {index + 1} of {len(archs)}, {time.perf_counter() - start:.0f} s", flush=True)
    return rows


def draw(definition: SpaceDefinition, train: int, test: int, seed: int) -> list[ArchConfig]:
    """Return distinct architectures: first `train` as a job draws them, then `test` at random."""
    chosen = stratified_sample(definition, train, np.random.default_rng([seed, 2]))
    known = {arch.key for arch in chosen}
    rng = np.random.default_rng([seed, 7])
    while len(chosen) < train + test:
        arch = definition.space.sample(rng)
        if arch.key not in known:
            known.add(arch.key)
            chosen.append(arch)
    return chosen


def compare(
    definition: SpaceDefinition, rows: Sequence[Row], train: int, seed: int, listed: Listing
) -> dict[str, dict[str, float]]:
    """Return the quality of each predictor on the rows after the first `train`."""
    fitted, held = [row.profile() for row in rows[:train]], rows[train:]
    archs, truth = [ArchConfig(row.arch) for row in held], np.array([row.ms for row in held])
    name, process_state = gaussian_process(definition, fitted, "ms", seed)
    features = cost_features(definition.space.encode(archs), {"macs": definition.macs(archs)})
    by_process = from_state(name.kind, process_state).predict(features)
    _, state = by_operators(definition, fitted, "ms", seed, listed)
    predictor = OperatorLatency.from_state(definition.space, state)
    by_rule = predictor.predict(archs)
    report, _ = best_latency(definition, fitted, "ms", seed, listed)
    result = {
        "gaussian process": quality(truth, *by_process),
        "operators of the graph": quality(
            truth, *predictor.predict_graphs([[t.operator for t in row.timed()] for row in held])
        ),
        "operators by rule": quality(truth, *by_rule),
        "search": quality(truth, *(by_process if report.kind == name.kind else by_rule)),
    }
    result["search, as its report says"] = dict(report.quality)
    return result


def elsewhere(fitted: OperatorLatency, rows: Sequence[Row]) -> dict[str, float]:
    """Return the quality of operators' times learned in one space on networks of another."""
    truth = np.array([row.ms for row in rows])
    return quality(truth, *fitted.predict_graphs([[t.operator for t in row.timed()] for row in rows]))


def print_table(title: str, qualities: dict[str, dict[str, float]]) -> None:
    """Print one line per predictor."""
    print(f"\n{title}\n{'':30}{'within 10 %':>12}{'MAPE':>8}{'Kendall':>9}{'90 % covers':>13}")
    for name, row in qualities.items():
        print(
            f"{name:30}{row['within_10']:12.1%}{row['mape']:8.2%}{row['kendall_tau']:9.3f}{row['coverage_90']:13.1%}",
            flush=True,
        )


def repeatability(rows: Sequence[Row]) -> FloatArray:
    """Return the ratios of second to first measurements."""
    return np.array([row.again_ms / row.ms for row in rows if row.again_ms is not None])


def write(path: Path, result: dict[str, Any], measured: dict[str, list[Row]], listed: Listing) -> None:
    """Write qualities, measurements and listed operators."""
    rows = {name: [asdict(row) for row in part] for name, part in measured.items()}
    more = [[dict(arch), [list(asdict(op).values()) for op in graph]] for arch, graph in listed]
    device = asdict(fingerprint(load_device("local")))
    path.write_text(json.dumps(result | {"device": device, "measured": rows, "listed": more}) + "\n")


def read_listing(rows: list[Any]) -> Listing:
    """Return what `write` wrote of listed operators."""
    return [
        (ArchConfig(arch), tuple(Operator(n, k, t, tuple(i), tuple(w), tuple(o)) for n, k, t, i, w, o in graph))
        for arch, graph in rows
    ]


def main() -> None:
    """Measure or read measurements, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=40, help="measured subnets that predictors learn from")
    parser.add_argument("--test", type=int, default=100, help="held-out subnets")
    parser.add_argument("--elsewhere", type=int, default=20, help="networks of each other space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-quantized", action="store_true", help="leave that part out")
    parser.add_argument("--json", type=Path, default=Path("latency.json"), help="where to write measurements and qualities")
    parser.add_argument("--reuse", type=Path, default=None, help="measurements of a former run, made with the same arguments")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = load_device("local")
    plain = make_space("slimmable", OPTIONS, TASKS, INPUT)
    parts: dict[str, SpaceDefinition] = {} if given.skip_quantized else {"quantized": WithPrecision(plain)}
    parts["fp32"] = plain
    known = json.loads(given.reuse.read_text()) if given.reuse else {"measured": {}}
    listed = read_listing(known.get("listed", []))
    meter = LatencyMeter(device)
    measured: dict[str, list[Row]] = {name: [Row(**row) for row in rows] for name, rows in known["measured"].items()}
    result: dict[str, Any] = {}
    for name, definition in parts.items():
        if name not in measured:
            archs = draw(definition, given.train, given.test, given.seed)
            measured[name] = measure(meter, definition, archs, device, given.train, name)
            write(given.json, {}, measured, listed)
        if name == "quantized" and not listed:
            start = time.perf_counter()
            listed = list_more(definition, given.train, device, given.seed)
            result["listing_s"] = time.perf_counter() - start
            print(f"  operators of {len(listed)} further candidates listed in {result['listing_s']:.0f} s", flush=True)
        more = listed if name == "quantized" else []
        result[name] = compare(definition, measured[name], given.train, given.seed, more)
        held = len(measured[name]) - given.train
        print_table(f"{name}: {held} held-out subnets from {given.train} measured, {len(more)} listed", result[name])
        apart = np.abs(repeatability(measured[name]) - 1)
        print(f"{len(apart)} of them measured again: {apart.mean():.2%} apart on average, {apart.max():.2%} at most")
    fitted = OperatorLatency(plain.space)
    profiles = [row.profile() for row in measured["fp32"][: given.train]]
    fitted.fit([p.arch for p in profiles], [p.operators for p in profiles], np.array([p.latency.ms for p in profiles]))
    result["elsewhere"] = {}
    for name, (tasks, input, options) in ELSEWHERE.items():
        if name not in measured and given.elsewhere:
            other = make_space("slimmable", options, tasks, input)
            measured[name] = measure(meter, other, draw(other, 0, given.elsewhere, given.seed), device, 0, name)
        if name in measured:
            result["elsewhere"][name] = elsewhere(fitted, measured[name])
    print_table("networks of other spaces, by the operators' times of the fp32 part", result["elsewhere"])
    write(given.json, result, measured, listed)


if __name__ == "__main__":
    main()
