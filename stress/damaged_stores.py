"""Stores with random bytes, pages and rows that are no rows, read by the commands that read."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.core import (
    ArchConfig,
    Artifact,
    CurvePoint,
    DataSpec,
    Evaluation,
    Fingerprint,
    JobSpec,
    JobState,
    Latency,
    Objective,
    PredictorReport,
    Profile,
    Source,
    TaskSpec,
)
from nas.store import open_store

TRACEBACK = re.compile(r"Traceback \(most recent call last\)|something unforeseen went wrong|^Aborted!", re.M)
PAGE = 4096  # bytes
READERS = (
    ("jobs",),
    ("jobs", "--format", "json"),
    ("status",),
    ("pareto",),
    ("status", "--format", "json"),
    ("pareto", "--format", "csv"),
    ("control", "--budget", "latency_ms@local<=5"),
    ("cancel",),
)
VALUES = (
    *(None, "", "{", "null", "[]", "{}", "[[[[", '{"a": NaN}', '{"metric": 5}', "\x00", "ü" * 300, "[1, 2", '"text"', "true"),
    *(-1, 2**63 - 1, 1e308, 0.5, b"\xff\xfe", "latest", "done", "running", "9999-99-99", "1970-01-01 00:00:00.000000"),
    '{"name": "x", "tasks": [{}]}',
)


def fill(folder: Path) -> Path:
    """Make a store with two finished jobs, and return its file."""
    objectives = (Objective("error.seg"), Objective("error.depth"), Objective("latency_ms@local"))
    data = DataSpec(options={"images": 8, "test_images": 4, "size": 16})
    spec = JobSpec("rooms", (TaskSpec("seg"), TaskSpec("depth")), objectives, data=data, executor="local")
    made_on, latency = Fingerprint("cpu", 2, "1.2", "CPU", 1), Latency(1.0, 1.0, 0.1, 1.0, 1.0, 1.0, 1.0, 5, False)
    store = open_store(str(folder / "nas.db"))
    for _ in range(2):
        job = store.create_job(spec)
        store.set_state(job, JobState.RUNNING)
        for number in range(8):
            arch = ArchConfig({"encoder.0.width": 0.25 * (number + 1)})
            metrics = {"error.seg": 1 / (number + 1), "error.depth": 0.1 * number, "latency_ms@local": 1.0 + number}
            store.add(job, [Evaluation(arch, metrics, Source.MEASURED, "verify", "test", made_on.key)])
            store.add_profiles(job, [Profile(arch, "local", made_on, latency, {"macs": 1e6})])
            store.add_curve(job, [CurvePoint("loss.seg", number, 0.5)])
            store.log(job, f"line {number}")
            store.add_artifact(job, Artifact("onnx", store.folder(job) / f"{number}.onnx", "feed", arch.key))
        store.save_predictor(job, PredictorReport("latency_ms@local", "tree", 8, 2, {"mape": 0.1}), {"a": [1.0]})
        for stage in store.stages(job):
            store.start(job, stage)
            store.finish(job, stage, {"checkpoint": "feed"})
        store.set_state(job, JobState.DONE)
    with store.read() as session:
        session.connection().exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return folder / "nas.db"


def damage(file: Path, rng: np.random.Generator) -> str:
    """Damage a SQLite file in one of several ways, and return which."""
    content = bytearray(file.read_bytes())
    kind = str(rng.choice(["bytes", "page", "cut", "header", "value", "value", "values", "missing", "swapped"]))
    if kind == "bytes":
        for at in rng.integers(0, len(content), int(rng.integers(1, 200))):
            content[at] = int(rng.integers(256))
    elif kind == "page":
        at = int(rng.integers(len(content) // PAGE)) * PAGE
        content[at : at + PAGE] = rng.bytes(PAGE)
    elif kind == "cut":
        del content[int(rng.integers(len(content))) :]
    elif kind == "header":
        content[int(rng.integers(100))] = int(rng.integers(256))
    elif kind == "swapped":
        first, second = (int(at) * PAGE for at in rng.integers(len(content) // PAGE, size=2))
        content[first : first + PAGE], content[second : second + PAGE] = (
            content[second : second + PAGE],
            content[first : first + PAGE],
        )
    if kind not in ("value", "values", "missing"):
        file.write_bytes(content)
        return kind
    connection = sqlite3.connect(file)
    with connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for _ in range(1 if kind != "values" else 12):
            table = str(rng.choice(tables))
            if kind == "missing":
                connection.execute(f"DROP TABLE {table}")
                continue
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            # A copy without constraints takes any value, as a damaged file or a stranger may have it.
            connection.execute(f"CREATE TABLE loose AS SELECT {', '.join(names)} FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE loose RENAME TO {table}")
            column, value = str(rng.choice(names)), VALUES[int(rng.integers(len(VALUES)))]
            where = "" if rng.random() < 0.5 else f" WHERE rowid = {int(rng.integers(1, 9))}"
            connection.execute(f"UPDATE {table} SET {column} = ?{where}", [value])
    connection.close()
    return kind


def try_stores(count: int, seed: int) -> Iterator[str]:
    """Yield a line for every command that ends in a traceback on a damaged store."""
    from typer.testing import CliRunner

    from nas.cli.app import app

    with tempfile.TemporaryDirectory(prefix="nas-hostile-") as place:
        whole = fill(Path(place))
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            folder = Path(place) / str(number)
            folder.mkdir()
            file = Path(shutil.copy(whole, folder / "nas.db"))
            kind = damage(file, rng)
            for words in READERS:
                done = CliRunner().invoke(app, ["--store", str(file), *words])
                text = done.stdout + done.stderr
                unforeseen = done.exception is not None and not isinstance(done.exception, SystemExit)
                if unforeseen or TRACEBACK.search(text) or done.exit_code not in (0, 2):
                    said = f"{done.exit_code} {text.strip()[-300:]} {done.exception!r}"
                    yield f"store {number} ({kind}), nas {' '.join(words)}: {said}"
            shutil.rmtree(folder)
