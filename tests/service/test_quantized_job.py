"""A job that searches precisions, on the supernet of one that did not: every number is that of a candidate's own file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx
import pytest
from tiny_job import tiny_spec

from nas.core import JobId, Objective, QuantizationSpec, SearchSpec, SpaceSpec, Stage, is_fp32, policy_of, without_policy
from nas.export import weight_bytes
from nas.service import api
from nas.service.candidates import CandidateFiles, file_metrics
from nas.service.exporting import export_arch
from nas.service.job_data import job_data
from nas.service.workers import job_definition
from nas.store import SqlStore, open_store

PLAIN = tiny_spec(
    space=SpaceSpec(options={"channels": [16], "decoder_channels": 16, "widths": [0.5, 1.0], "resolutions": [1.0]}),
    search=SearchSpec("random", evaluations=3, batch_size=3, profile_samples=3, calibration_images=8, verify=1),
)
BLOCKS = ("stem", "stages.0", "decoders.seg", "decoders.depth")
OBJECTIVES = (Objective("error.seg"), Objective("error.depth"), Objective("size_bytes"))  # no measured time decides


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, JobId, JobId]]:
    """A finished job, and a finished one that searches precisions on its supernet."""
    store = open_store(str(tmp_path_factory.mktemp("quantized") / "nas.db"))
    plain = api.create(store, PLAIN)
    api.run(store, plain)
    spec = replace(
        PLAIN,
        objectives=OBJECTIVES,
        training=replace(PLAIN.training, reuse=plain),
        search=SearchSpec("predictor", evaluations=9, batch_size=3, profile_samples=3, calibration_images=8, verify=2),
        quantization=QuantizationSpec(search=True, calibration_images=8, max_loss=1.0),
    )
    job = api.create(store, spec)
    api.run(store, job)
    yield store, plain, job
    store.close()


def test_the_sensitivity_of_every_block_comes_before_the_search(jobs: tuple[SqlStore, JobId, JobId]) -> None:
    store, plain, job = jobs
    assert Stage.SENSITIVITY not in store.stages(plain)
    found = store.stages(job)[Stage.SENSITIVITY].result["blocks"]
    assert {(row["block"], row["precision"]) for row in found} == {(block, "int8") for block in BLOCKS}
    assert all(row["saved_bytes"] > 0 for row in found)


def test_candidates_pick_precisions_and_what_was_measured_in_fp32_is_reused_as_such(
    jobs: tuple[SqlStore, JobId, JobId],
) -> None:
    store, plain, job = jobs
    searched = store.evaluations(job, "search")
    assert any(not is_fp32(policy_of(row.arch)) for row in searched)
    assert all(len(policy_of(row.arch)) == len(BLOCKS) for row in searched)
    reused = {without_policy(row.arch).key for row in store.evaluations(job, "reused") if is_fp32(policy_of(row.arch))}
    assert reused == {row.arch.key for row in store.evaluations(plain, "search")}


def test_a_quantized_candidate_takes_fewer_bytes_than_the_same_network_in_fp32(jobs: tuple[SqlStore, JobId, JobId]) -> None:
    store, _, job = jobs
    rows = [row for row in store.evaluations(job, "search") if not row.failure]
    spec, folder = store.job(job).spec, store.folder(job)
    data = job_data(spec, folder)
    definition, files = job_definition(spec, data), CandidateFiles(spec, data, folder)
    quantized = [row for row in rows if "fp32" not in policy_of(row.arch).values()]
    assert quantized
    for row in quantized:
        network = definition.build(row.arch).eval()
        low, full = (
            onnx.load_from_string(files.untrained(network, [arch])[0]) for arch in (row.arch, without_policy(row.arch))
        )
        assert weight_bytes(low) < 0.5 * weight_bytes(full)
        assert row.metrics["size_bytes"] == pytest.approx(
            low.ByteSize(), rel=0.02
        )  # all of the file, which here is mostly graph


def test_what_was_verified_is_the_quantized_file_that_is_exported(jobs: tuple[SqlStore, JobId, JobId]) -> None:
    store, _, job = jobs
    row = next(row for row in store.evaluations(job, "verify") if not is_fp32(policy_of(row.arch)))
    elsewhere = replace(row, device="another device")  # how long a network of this size takes is not what is tested here
    path = export_arch(store, job, elsewhere, None)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}
    data = job_data(store.job(job).spec)
    measured = file_metrics(path, data, data.test)
    for name in ("error.seg", "error.depth", "size_bytes"):
        assert measured[name] == pytest.approx(row.metrics[name], rel=1e-5)
