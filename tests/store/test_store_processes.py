"""Several processes on one store, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas.core import JobSpec, Stage
from nas.store import SqlStore, open_store

BATCH = 20
HEAD = """
import sys, time
from pathlib import Path
from nas.core import ArchConfig, Evaluation, JobSpec, Objective, Source, Stage, TaskSpec
from nas.store import open_store

def batch(number):
    picks = [{"index": number * 20 + i} for i in range(20)]
    return [Evaluation(ArchConfig(pick), {"macs": float(pick["index"])}, Source.MEASURED, "search") for pick in picks]
"""
WRITE = """
store, job = open_store(sys.argv[1]), sys.argv[2]
store = store.claim(job, "writer", instead_of=store.job(job).owner)
for number in range(int(sys.argv[3])):
    store.add(job, batch(number))
    store.progress(job, Stage.SEARCH, number + 1, int(sys.argv[3]), "batches")
    print(number + 1, flush=True)
"""
STOP_INSIDE = """
store, job = open_store(sys.argv[1]), sys.argv[2]
store.add(job, batch(0))
from nas.store import encoding, models, transactions
with store.write() as session:
    transactions.insert_architectures(session, [row.arch for row in batch(1)])
    transactions.insert(session, models.EvaluationRow, [encoding.evaluation_row(job, row) for row in batch(1)])
    print("inside", flush=True)
    time.sleep(60)
"""
OPEN = """
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
store = open_store(sys.argv[1])
print(store.create_job(JobSpec("race", (TaskSpec("seg"),), (Objective("macs"),))))
"""


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", HEAD + code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_reader_sees_whole_batches_while_two_jobs_write(store: SqlStore, spec: JobSpec) -> None:
    jobs = [store.create_job(spec) for _ in range(2)]
    seen = [0, 0]
    polls = 0
    with process(WRITE, store.url, jobs[0], 25) as first, process(WRITE, store.url, jobs[1], 25) as second:
        while first.poll() is None or second.poll() is None:
            for i, job in enumerate(jobs):
                count = len(store.evaluations(job))
                assert count % BATCH == 0
                assert count >= seen[i]
                polls += 0 < count < 25 * BATCH
                seen[i] = count
            time.sleep(0.02)
        assert (first.returncode, second.returncode) == (0, 0)
    assert polls > 0
    for job in jobs:
        assert [row.metrics["macs"] for row in store.evaluations(job)] == [float(i) for i in range(25 * BATCH)]
        assert store.stages(job)[Stage.SEARCH].done == 25
        assert store.job(job).heartbeat is not None


def test_first_openers_at_once(store_url: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with process(OPEN, store_url, go) as a, process(OPEN, store_url, go) as b, process(OPEN, store_url, go) as c:
        assert [line(child) for child in (a, b, c)] == ["ready"] * 3
        go.touch()
        made = {line(child) for child in (a, b, c)}
        assert [child.wait(30) for child in (a, b, c)] == [0, 0, 0]
    store = open_store(store_url, create=False)
    assert {record.id for record in store.jobs()} == made
    assert len(made) == 3
    store.close()


def test_killed_inside_a_transaction(store: SqlStore, job: str) -> None:
    with process(STOP_INSIDE, store.url, job) as child:
        assert line(child) == "inside"
        assert len(store.evaluations(job)) == BATCH  # readers neither wait for the writer nor see what it did not commit
        child.kill()
        child.wait(30)
        store.log(job, "the next writer does not wait")
        assert [row.metrics["macs"] for row in store.evaluations(job)] == [float(i) for i in range(BATCH)]


@pytest.mark.parametrize("kills", [2])
def test_killed_at_any_moment_and_run_again(store: SqlStore, job: str, kills: int) -> None:
    for round_ in range(1, kills + 1):
        with process(WRITE, store.url, job, 10_000) as child:
            acknowledged = 0
            while acknowledged < 7 * round_:
                acknowledged = int(line(child))
            child.kill()
            child.wait(30)
        count = len(store.evaluations(job))
        assert count % BATCH == 0
        assert count >= acknowledged * BATCH
    assert len({row.arch.key for row in store.evaluations(job)}) == count
