"""The seconds that each stage of a job takes, and what its evaluations spend them on.

    python benchmarks/job.py examples/nyuv2.yaml
    python benchmarks/job.py examples/digits_int8.yaml --executor local --epochs 3

The job runs in a store of its own, which is deleted, unless ``--store`` names one. With ``--job ID`` nothing runs, and the
times of that job are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from nas.core import Evaluation, JobId, JobSpec
from nas.service import api
from nas.service.jobfile import load_job
from nas.store import SqlStore, open_store


def stage_times(store: SqlStore, job: JobId) -> list[tuple[str, float]]:
    """Return the seconds of every stage that began and ended; train and profile may have run side by side."""
    return [
        (stage.value, (record.ended - record.started).total_seconds())
        for stage, record in store.stages(job).items()
        if record.started and record.ended
    ]


def parts(rows: list[Evaluation]) -> dict[str, tuple[int, float]]:
    """Return what evaluations of each stage spent: ``search: accuracy`` to how many of them have it, and the mean seconds."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for part, seconds in row.seconds.items():
            found[f"{row.stage}: {part}"].append(seconds)
    return {name: (len(values), sum(values) / len(values)) for name, values in sorted(found.items())}


def shortened(spec: JobSpec, given: argparse.Namespace) -> JobSpec:
    """Return the job with what the command line changes."""
    training, search = spec.training, spec.search
    if given.epochs is not None:
        training = dataclasses.replace(training, epochs=given.epochs)
    if given.verify is not None:
        search = dataclasses.replace(search, verify=given.verify)
    if given.evaluations is not None:
        search = dataclasses.replace(search, evaluations=given.evaluations)
    return dataclasses.replace(spec, training=training, search=search, executor=given.executor or spec.executor)


def main() -> None:
    """Run the job and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="the job file")
    parser.add_argument("--job", help="print the times of this job of the store instead")
    parser.add_argument("--store", help="where the job is stored; a folder that is deleted where it is not given")
    parser.add_argument("--executor", choices=["ray", "local"], default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--evaluations", type=int, default=None)
    parser.add_argument("--verify", type=int, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-job-") as folder:
        store = open_store(given.store or f"{folder}/nas.db")
        if given.job:
            job = store.job(given.job).id
        else:
            began = time.perf_counter()
            job = api.create(store, shortened(load_job(given.file), given))
            api.run(store, job)
            print(f"{'whole job':32}{time.perf_counter() - began:9.1f} s")
        for stage, seconds in stage_times(store, job):
            print(f"{stage:32}{seconds:9.1f} s")
        for part, (count, mean) in parts(store.evaluations(job)).items():
            print(f"  {part:30}{mean:9.3f} s each, {count} times")
        front = store.stages(job)
        print(f"front: {next(reversed(front.values())).result}")
        store.close()


if __name__ == "__main__":
    main()
