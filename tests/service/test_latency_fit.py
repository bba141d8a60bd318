"""Which latency predictor a job uses, on profiles whose latencies are known in closed form."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
from tiny_job import tiny_spec

from hw_profiles.devices import load_device
from nas.core import ArchConfig, Fingerprint, InputSpec, Latency, Profile, QuantizationSpec, Task, without_policy
from nas.core.operator import Operator, OperatorTime
from nas.core.precision import policy_of
from nas.service.job_data import job_data
from nas.service.stages.fit import best_latency, latency_function
from nas.service.stages.listing import draw_policies
from nas.service.stages.profile import stratified_sample
from nas.service.workers import FileWorker, ProfileWorker, searched_definition
from nas.supernet import SpaceDefinition
from search_spaces import make_space
from search_spaces.precision import WithPrecision

FINGERPRINT = Fingerprint("Some CPU", 4, "1.32.0", "CPUExecutionProvider", 1)
INPUT = InputSpec(3, 32, 48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SPACE = make_space("slimmable", {"channels": [16, 32]}, (Task("seg", "segmentation", 5),), INPUT)


def profile(arch: ArchConfig, with_operators: bool) -> Profile:
    """Stages whose cost is the product of two widths, which a sum over choices is not; a step at one resolution."""
    first, second = (round(64 * float(arch[f"encoder.{stage}.width"])) for stage in (0, 1))
    side = 24 if arch["resolution"] == 0.75 else 32
    shapes = [("a", 3, first), ("b", first, second), *([("c", second, second)] if arch["encoder.1.depth"] == 2 else [])]
    graph = [Operator(n, "Conv", "float", (1, i, side, side), (o, i, 3, 3), (1, o, side, side)) for n, i, o in shapes]
    graph.append(
        Operator("up", "Resize" if side == 24 else "Upsample", "float", (1, second, side, side), (), (1, second, 64, 64))
    )
    timed = tuple(OperatorTime(op, 0.01 + op.flops * (3e-8 if op.kind == "Conv" else 2e-6)) for op in graph)
    ms = sum(row.ms for row in timed)
    latency = Latency(ms, ms / 2, 0.01, ms, ms, ms, ms, 100, False)
    return Profile(arch, "local", FINGERPRINT, latency, {}, timed if with_operators else ())


def sample(definition: SpaceDefinition, count: int, seed: int) -> list[ArchConfig]:
    return stratified_sample(definition, count, np.random.default_rng(seed))


def test_operators_are_used_where_they_predict_better() -> None:
    rows = [profile(arch, True) for arch in sample(SPACE, 20, 0)]
    report, state = best_latency(SPACE, rows, "latency_ms@local", 0)
    assert report.kind == "operators"
    archs = [SPACE.space.sample(np.random.default_rng(seed)) for seed in range(50)]
    truth = np.array([profile(arch, True).latency.ms for arch in archs])
    predicted = latency_function(SPACE, report.kind, json.loads(json.dumps(state)))(archs)
    assert np.abs(predicted / truth - 1).mean() < 0.03


def test_profiles_without_operators_give_a_gaussian_process() -> None:
    rows = [profile(arch, index > 0) for index, arch in enumerate(sample(SPACE, 8, 0))]
    report, state = best_latency(SPACE, rows, "latency_ms@local", 0)
    assert report.kind == "log_gaussian_process"
    assert latency_function(SPACE, report.kind, state)([rows[0].arch]).shape == (1,)


def test_three_profiles_are_enough() -> None:
    report, _ = best_latency(SPACE, [profile(arch, True) for arch in sample(SPACE, 3, 0)], "latency_ms@local", 0)
    assert report.held_out == 3


def test_a_sample_spans_the_costs_and_balances_the_policies() -> None:
    definition = WithPrecision(SPACE)
    archs = sample(definition, 26, 0)
    assert len({arch.key for arch in archs}) == 26
    macs = definition.macs(archs)
    assert macs.min() == macs[0] == definition.macs([definition.space.smallest()])[0]
    assert macs.max() == macs[-1] == definition.macs([definition.space.largest()])[0]
    for block in policy_of(archs[0]):
        counts = Counter(policy_of(arch)[block] for arch in archs[1:-1])
        assert set(counts.values()) == {12}


def test_a_listing_holds_networks_under_several_policies() -> None:
    space = WithPrecision(SPACE).space
    groups = draw_policies(space, 30, np.random.default_rng(0))
    assert all(len({without_policy(arch).key for arch in group}) == 1 for group in groups)
    assert len({without_policy(group[0]).key for group in groups}) > 10
    for block in policy_of(groups[0][0]):
        counts = Counter(policy_of(arch)[block] for group in groups for arch in group)
        assert min(counts.values()) > 30


def test_what_is_listed_is_what_runs_when_a_candidate_is_measured() -> None:
    spec = tiny_spec(quantization=QuantizationSpec(search=True, calibration_images=8))
    worker, maker = ProfileWorker(load_device("local")), FileWorker(spec, None)
    space = searched_definition(spec, job_data(spec)).space
    (group,) = draw_policies(space, 1, np.random.default_rng(1))
    listed = worker.list_operators(maker.files(group))
    assert len({tuple(op.kind for op in graph) for graph in listed}) > 1
    worker.use_reference(1.0)
    _, timed = worker.profile(maker.file(group[1])[0])
    assert sorted(str(row.operator) for row in timed) == sorted(map(str, listed[1]))
