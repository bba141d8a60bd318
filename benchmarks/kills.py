"""Tiny jobs on Ray, each killed once at a random moment: does every one of them end, is anything lost, is anything there twice?

    python benchmarks/kills.py --kinds driver worker raylet gcs stop postgres --count 10

    driver     kill -9 of the process that drives the job, which is then resumed once
    worker     kill -9 of one of its training, twin, profiling or evaluation processes
    raylet     kill -9 of its Ray's raylet
    gcs        kill -9 of its Ray's GCS
    terminate  SIGTERM to the driver, as a batch system ends a job, which is then resumed once
    stop       SIGSTOP of the driver; another takes the job over when the first was silent for 30 s; SIGCONT while it runs
    postgres   the job's store is in PostgreSQL, which is stopped for 60 s

A job ends by itself, or by one resume, or not: a run of longer than `--limit-s` counts as one that waits for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from nas.core import DataSpec, JobId, JobState, SearchSpec, Stage, StageState, TrainingSpec
from nas.store import SqlStore, open_store

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "service")]
from postgres import Server  # noqa: E402
from tiny_job import Audit, tiny_spec  # noqa: E402

NAS = [sys.executable, "-P", "-c", "from nas.cli.app import main; main()"]
EPOCHS = 4
SPEC = tiny_spec(
    executor="ray",
    data=DataSpec("scenes", options={"images": 64, "test_images": 16, "size": 32}, val_fraction=0.25),
    training=TrainingSpec(epochs=EPOCHS, batch_size=8, precision="fp32", twins=True, twin_epochs=2, workers=2),
    search=SearchSpec("random", evaluations=40, batch_size=4, profile_samples=8, calibration_images=16, verify=2),
)
WORKERS = ("ray::TrainWorker", "ray::ProfileWorker", "ray::ImplicitFunc", "ray::EvalWorker")
AWAY_S = 60.0  # PostgreSQL
OWN, RESUMED, NEVER = "by itself", "by one resume", "not"


@dataclass
class Run:
    """A job under way.

    Attributes:
        audit: Of a SQLite store; None elsewhere.
        driver: ``nas resume`` in the foreground.
    """

    store: SqlStore
    job: JobId
    audit: Audit | None
    driver: subprocess.Popen[bytes]
    log: Path

    def resume(self) -> subprocess.Popen[bytes]:
        """Start a driver."""
        with self.log.open("ab") as output:
            return subprocess.Popen([*NAS, "resume", self.job, "--store", self.store.url], stdout=output, stderr=output)

    def below(self) -> list[psutil.Process]:
        """Return the driver's processes, its Ray's among them."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.driver.pid).children(recursive=True)
        return []

    def stage(self) -> str:
        """Return which stages run."""
        stages = self.store.stages(self.job)
        return "+".join(name for name, stage in stages.items() if stage.state is StageState.RUNNING) or "start"


def named(run: Run, *names: str) -> list[psutil.Process]:
    """Return the driver's processes whose title starts with one of `names`."""
    found = []
    for process in run.below():
        with contextlib.suppress(psutil.Error):
            if process.name() in names or " ".join(process.cmdline()).startswith(names):
                found.append(process)
    return found


def kill(choose: Callable[[Run], list[psutil.Process]]) -> Callable[[Run, random.Random, Server | None], None]:
    """Return what kills one of the processes that `choose` finds, as soon as there is one."""

    def act(run: Run, rng: random.Random, _: Server | None) -> None:
        while run.driver.poll() is None:
            if found := choose(run):
                rng.choice(found).kill()
                return
            time.sleep(0.1)

    return act


def terminate(run: Run, _: random.Random, __: Server | None) -> None:
    """Ask the driver to end."""
    run.driver.terminate()


def stop_and_go_on(run: Run, rng: random.Random, _: Server | None) -> None:
    """Stop the driver, let another one take over, and wake the first while that one runs."""
    first = run.driver
    first.send_signal(signal.SIGSTOP)
    former = run.store.job(run.job).owner
    while True:
        second = run.resume()
        while second.poll() is None and run.store.job(run.job).owner == former:
            time.sleep(0.2)
        if second.poll() is None:
            break
        time.sleep(1)  # refused: the first has not been silent for long enough
    time.sleep(rng.uniform(0, 20))
    first.send_signal(signal.SIGCONT)
    run.driver = second
    code = first.wait(120)
    if code == 0:
        raise AssertionError("the driver that lost the job took itself for its driver")


def restart_postgres(run: Run, _: random.Random, server: Server | None) -> None:
    """Stop the server for a minute."""
    assert server is not None
    server.stop()
    time.sleep(AWAY_S)
    server.start()


KINDS: dict[str, Callable[[Run, random.Random, Server | None], None]] = {
    "driver": lambda run, _, __: run.driver.kill(),
    "worker": kill(lambda run: named(run, *WORKERS)),
    "raylet": kill(lambda run: named(run, "raylet")),
    "gcs": kill(lambda run: named(run, "gcs_server")),
    "terminate": terminate,
    "stop": stop_and_go_on,
    "postgres": restart_postgres,
}


@contextlib.contextmanager
def started(server: Server | None) -> Iterator[Run]:
    """Start a job on a store of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nas-kills-")))
        os.environ["NAS_HOME"] = str(folder)
        url = server.url.render_as_string() if server else str(folder / "nas.db")
        store = open_store(url)
        stack.callback(store.close)
        audit = None if server else Audit(folder / "nas.db")
        job = store.create_job(SPEC)
        run = Run(store, job, audit, None, folder / "log")  # type: ignore[arg-type]
        run.driver = run.resume()
        try:
            yield run
        finally:
            for process in [*run.below(), psutil.Process(run.driver.pid)] if run.driver.poll() is None else []:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            run.driver.wait()


def faults(run: Run) -> list[str]:
    """Return what is lost or there twice of a job that is done."""
    store, job, found = run.store, run.job, []
    rows = store.evaluations(job)
    counts = Counter(row.stage for row in rows)
    if counts != {"search": SPEC.search.evaluations, "verify": SPEC.search.verify}:
        found.append(f"evaluations: {dict(counts)}")
    if failed := [row.failure for row in rows if row.failure]:
        found.append(f"failed candidates: {failed[0]}")
    if len(store.profiles(job)) != SPEC.search.profile_samples:
        found.append(f"profiles: {len(store.profiles(job))}")
    if {row.checkpoint for row in rows} != {store.stages(job)[Stage.TRAIN].result["checkpoint"]}:
        found.append("evaluations of other weights than those that were trained")
    steps = [step for step, _ in store.curves(job)["loss.seg"]]
    if steps != [steps[0] * (epoch + 1) for epoch in range(EPOCHS)]:
        found.append(f"epochs at steps {steps}")
    if (done := [event.message for event in store.events(job)].count("done")) != 1:
        found.append(f"done was logged {done} times")
    for table in ("evaluations", "profiles", "curve_points") if run.audit else ():
        twice = [row for row, times in run.audit.count(table).items() if times > 1]
        if twice:
            found.append(f"{table} handed in twice: {twice[:3]}")
    return found


def one(kind: str, moment_s: float, rng: random.Random, server: Server | None, limit_s: float) -> tuple[bool, str]:
    """Run a job, kill, and return whether all is well and a row of the table."""
    with started(server if kind == "postgres" else None) as run:
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.driver.wait(moment_s)
        stage, ended, wrong = run.stage(), NEVER, []
        try:
            KINDS[kind](run, rng, server)
            run.driver.wait(limit_s)
            ended = OWN
            if run.store.job(run.job).state is not JobState.DONE:
                run.driver = run.resume()
                run.driver.wait(limit_s)
                ended = RESUMED
            if run.store.job(run.job).state is not JobState.DONE:
                ended = NEVER
        except (subprocess.TimeoutExpired, AssertionError) as error:
            ended, wrong = NEVER, [str(error)]
        record = run.store.job(run.job)
        if ended != NEVER:
            wrong = faults(run)
        else:
            wrong.append(f"{record.state}: {record.error}; {run.log.read_text(errors='replace').strip()[-300:]}")
        took = time.monotonic() - began
        row = f"{kind:<10} {moment_s:6.1f} {stage:<16} {ended:<14} {took:6.0f}  {'; '.join(wrong) or 'nothing lost or doubled'}"
        return not wrong, row


def undisturbed(limit_s: float) -> float:
    """Return the seconds that a job takes which nobody kills."""
    began = time.monotonic()
    with started(None) as run:
        run.driver.wait(limit_s)
        took_s = time.monotonic() - began
        print(f"undisturbed: {took_s:.0f} s, {faults(run) or 'nothing lost or doubled'}\n", flush=True)
    return took_s


def main() -> int:
    """Print a row per kill, then how many of each kind went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--count", type=int, default=5, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=600.0, help="of a run")
    parser.add_argument("--length-s", type=float, help="of an undisturbed run, which is then not made")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server.temporary()) if "postgres" in options.kinds else None
        length_s = options.length_s or undisturbed(options.limit_s)
        print("kind       moment stage            ended          took s  found", flush=True)
        good: Counter[str] = Counter()
        for _ in range(options.count):
            for kind in options.kinds:
                fine, row = one(kind, rng.uniform(0, length_s), rng, server, options.limit_s)
                good[kind] += fine
                print(row, flush=True)
    print()
    for kind in options.kinds:
        print(f"{kind:<10} {good[kind]} of {options.count} ended with nothing lost or doubled")
    return int(sum(good.values()) < options.count * len(options.kinds))


if __name__ == "__main__":
    sys.exit(main())
