"""Damaged rows and files: what can be read stays visible, and what cannot is one line that names the table."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.core import (
    ArchConfig,
    Artifact,
    CurvePoint,
    Evaluation,
    Fingerprint,
    JobSpec,
    Latency,
    NotFoundError,
    PredictorReport,
    Profile,
    Source,
    StoreError,
)
from nas.store import SqlStore, open_store

ARCHS = [ArchConfig({"width": width}) for width in (0.5, 1.0)]
PRINT = Fingerprint("cpu", 2, "1.23", "CPUExecutionProvider", 1)
LATENCY = Latency(1.0, 1.0, 0.01, 1.0, 1.0, 1.0, 1.0, 5, False)


@pytest.fixture
def filled(tmp_path: Path, spec: JobSpec) -> tuple[Path, str, str]:
    """A store with two jobs that hold two rows in each table; its file, and the older and the newer job."""
    file = tmp_path / "store" / "nas.db"
    store = open_store(str(file))
    jobs = [store.create_job(spec) for _ in range(2)]
    for job in jobs:
        for i, arch in enumerate(ARCHS):
            store.log(job, f"line {i}")
            store.add(job, [Evaluation(arch, {"error.seg": 0.5, "macs": 1.0}, Source.MEASURED, "search", "val")])
            store.add_curve(job, [CurvePoint("loss.seg", i, 0.5)])
            store.add_profiles(job, [Profile(arch, "local", PRINT, LATENCY, {"macs": 1.0})])
            store.save_predictor(job, PredictorReport(f"macs{i}", "tree", 1, 1, {"mape": 0.1}), {"a": 1})
            store.add_artifact(job, Artifact("onnx", store.folder(job) / f"{i}.onnx", "feed", arch.key))
    store.close()
    return file, jobs[0], jobs[1]


READERS: dict[str, Callable[[SqlStore, str], Any]] = {
    "events": SqlStore.events,
    "evaluations": SqlStore.evaluations,
    "curve_points": lambda store, job: store.curves(job).get("loss.seg", []),
    "profiles": SqlStore.profiles,
    "predictors": SqlStore.predictors,
    "artifacts": SqlStore.artifacts,
}
DAMAGES = [
    ("events", "time", "yesterday"),
    ("events", "time", 12.5),
    ("events", "message", None),
    ("events", "level", b"\xff\x00"),
    ("evaluations", "metrics", "{"),
    ("evaluations", "metrics", "[1, 2]"),
    ("evaluations", "metrics", '{"error.seg": "low"}'),
    ("evaluations", "metrics", "[" * 100_000),
    ("evaluations", "std", None),
    ("evaluations", "source", "guessed"),
    ("evaluations", "seed", "zero"),
    ("curve_points", "value", "high"),
    ("curve_points", "step", "first"),
    ("profiles", "latency", '{"ms": 1}'),
    ("profiles", "latency", "null"),
    ("profiles", "operators", "[[1]]"),
    ("predictors", "report", '{"target": 5}'),
    ("predictors", "state", "7"),
    ("artifacts", "info", "no JSON"),
    ("artifacts", "path", b"\x03"),
]


def spoil(file: Path, table: str, column: str, value: object, where: str = "1 = 1", rows: int = 1) -> None:
    """Put a value into the first rows of a table, past its constraints, as a damaged file or a stranger may have it."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        names = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        connection.execute(f"CREATE TABLE loose AS SELECT {names} FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE loose RENAME TO {table}")
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {rows})", [value]
        )
    connection.close()


@pytest.mark.parametrize(("table", "column", "value"), DAMAGES)
def test_a_damaged_row_hides_no_other(filled: tuple[Path, str, str], table: str, column: str, value: object) -> None:
    file, job, other = filled
    spoil(file, table, column, value, f"job_id = '{job}'")
    store = open_store(str(file), create=False)
    assert len(READERS[table](store, other)) == 2
    assert store.damages.sentences() == []
    assert len(READERS[table](store, job)) == 1
    (sentence,) = store.damages.sentences()
    assert f"table {table} has 1 damaged row of job {job}" in sentence
    assert "put back a copy" in sentence
    store.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("spec", "{"),
        ("spec", None),
        ("spec", '{"name": "x"}'),
        ("spec", '{"name": "x", "tasks": [], "objectives": []}'),
        ("spec", '{"name": "x", "tasks": [{"name": "a"}], "objectives": [{"metric": "macs", "direction": "up"}]}'),
        ("spec", '{"name": "x", "tasks": [{"name": 5}], "objectives": [{"metric": "macs"}]}'),
        ("state", "asleep"),
        ("created", "long ago"),
        ("created", None),
        ("heartbeat", b"\x00"),
        ("error", b"\xff"),
        ("id", "../../etc"),
    ],
)
def test_a_damaged_job_hides_no_other(filled: tuple[Path, str, str], column: str, value: object) -> None:
    file, job, other = filled
    spoil(file, "jobs", column, value, f"id = '{job}'")
    store = open_store(str(file), create=False)
    assert [record.id for record in store.jobs()] == [other]
    (sentence,) = store.damages.sentences()
    assert "table jobs has 1 damaged row (" in sentence
    with pytest.raises((StoreError, NotFoundError), match="table jobs is damaged at job" if column != "id" else "is none"):
        store.job(job)
    assert store.job("latest").id == other
    store.close()


def test_a_job_with_a_damaged_stage_is_not_taken_for_one_without_it(filled: tuple[Path, str, str]) -> None:
    file, job, other = filled
    spoil(file, "stages", "result", "{", f"job_id = '{job}'")
    store = open_store(str(file), create=False)
    with pytest.raises(StoreError, match=f"table stages is damaged at job {job}"):
        store.stages(job)
    assert store.stages(other)
    store.close()


def test_pages_that_are_overwritten_are_one_sentence(filled: tuple[Path, str, str]) -> None:
    file, job, _ = filled
    content = bytearray(file.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged|cannot be opened"):
        open_store(str(file), create=False).evaluations(job)


def as_reader(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who may read what is in `place` and not write it, root included."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, as root may write everywhere")
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
    for path in (place, *place.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
        if prefix:
            os.chown(path, 65534, 65534)
    try:
        return subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=60)
    finally:
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize("in_use", [False, True])
def test_a_store_that_cannot_be_written_is_read(filled: tuple[Path, str, str], in_use: bool) -> None:
    file, job, other = filled
    holder = open_store(str(file)) if in_use else None  # a driver of its owner's, whose files lie beside the database
    if holder is not None:
        holder.log(job, "meanwhile")
    code = f"""if True:
        from nas.core import StoreError
        from nas.store import open_store
        store = open_store({str(file)!r}, create=False)
        print(store.writable, *(record.id for record in store.jobs()), len(store.events({job!r})))
        print(store.reference_ms("local", "feed", 2.5))
        try:
            store.log({job!r}, "no")
        except StoreError as error:
            print(error)
    """
    done = as_reader([sys.executable, "-c", code], file.parent)
    assert done.stderr == ""
    first, reference, refusal = done.stdout.splitlines()
    assert first == f"False {other} {job} {3 if in_use else 2}"
    assert reference == "2.5"
    assert "the store cannot be written" in refusal
    assert "ask its owner" in refusal
    if holder is not None:
        holder.close()


def test_what_lies_in_a_jobs_folder_moves_with_it(filled: tuple[Path, str, str], tmp_path: Path) -> None:
    file, job, _ = filled
    store = open_store(str(file))
    elsewhere = tmp_path / "exports" / "net.onnx"
    store.add_artifact(job, Artifact("card", elsewhere, "feed"))
    inside = store.folder(job) / "0.onnx"
    inside.write_text("")
    store.close()
    file.parent.rename(tmp_path / "moved")
    store = open_store(str(tmp_path / "moved" / "nas.db"))
    assert store.artifacts(job, "onnx")[0].path == tmp_path / "moved" / "jobs" / job / "0.onnx"
    assert store.artifacts(job, "onnx")[0].path.is_file()
    assert store.artifacts(job, "card")[0].path == elsewhere
    store.close()


def test_a_full_path_of_an_earlier_version_moves_too(filled: tuple[Path, str, str], tmp_path: Path) -> None:
    file, job, _ = filled
    for row, path in enumerate((f"/home/somebody/nas/jobs/{job}/refined/a.safetensors", "/home/somebody/out/net.onnx")):
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE artifacts SET path = ? WHERE job_id = ? AND path = ?", [path, job, f"{row}.onnx"])
        connection.close()
    store = open_store(str(file))
    paths = [artifact.path for artifact in store.artifacts(job)]
    assert paths == [store.folder(job) / "refined" / "a.safetensors", Path("/home/somebody/out/net.onnx")]
    store.close()
