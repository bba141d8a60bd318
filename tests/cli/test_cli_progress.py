"""Progress: how long a stage still takes, what is shown, and when it stops."""

from __future__ import annotations

import io
import threading
import time

import pytest
from cli_place import Place
from rich.console import Console

from nas.cli.progress import Observer, Pace, Progress, duration, plain, render
from nas.core import JobState, Stage, StageRecord, StageState


def stage(done: int, total: int = 100, state: StageState = StageState.RUNNING) -> StageRecord:
    return StageRecord(Stage.TRAIN, state, done, total, "steps")


def test_the_time_left_is_that_of_the_pace_seen_here() -> None:
    pace = Pace()
    assert pace.remaining_s(stage(40), 1000.0) is None  # a resumed stage: what was done before says nothing of the pace
    assert pace.remaining_s(stage(40), 1005.0) is None
    assert pace.remaining_s(stage(50), 1020.0) == pytest.approx(100.0)  # 10 units in 20 s, 50 to go
    assert pace.remaining_s(stage(60), 1020.0) == pytest.approx(40.0)
    assert pace.remaining_s(stage(10), 1030.0) is None  # started again
    assert pace.remaining_s(stage(20), 1040.0) == pytest.approx(80.0)
    assert pace.remaining_s(stage(100, state=StageState.DONE), 1050.0) is None
    assert pace.remaining_s(stage(3, total=0), 1060.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (45.4, "45 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_picture_has_every_stage_the_front_and_the_last_event(place: Place) -> None:
    shot = Observer(place.store, place.job).look()
    assert shot.front == 3
    out = io.StringIO()
    Console(file=out, width=120).print(render(shot))
    text = out.getvalue()
    assert all(str(name) in text for name in shot.stages)
    assert "5/5 subnets" in text
    assert "front: 3 measured points" in text
    assert "the front has 3 points" in text
    assert plain(shot.stages[Stage.VERIFY], shot) == "verify: done, 5/5 subnets, front of 3"


def test_it_speaks_of_changes_and_stops_when_the_job_ends(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    store = place.store
    job = store.create_job(store.job(place.job).spec)
    store.set_state(job, JobState.RUNNING)
    store.start(job, Stage.TRAIN)

    def work() -> None:
        time.sleep(0.2)
        store.finish(job, Stage.TRAIN)
        store.set_state(job, JobState.FAILED, "no")

    worker = threading.Thread(target=work)
    worker.start()
    began = time.monotonic()
    with Progress(store, job) as progress:
        progress.wait()
    worker.join()
    assert time.monotonic() - began < 5
    assert capsys.readouterr().err.splitlines() == ["train: running", "train: done"]


def test_leaving_the_block_shows_the_last_state(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    store = place.store
    job = store.create_job(store.job(place.job).spec)
    store.set_state(job, JobState.CANCELLED)  # and now it is resumed
    with Progress(store, job):
        time.sleep(0.1)
        store.set_state(job, JobState.RUNNING)
        store.start(job, Stage.TRAIN)
        store.finish(job, Stage.TRAIN)
    assert capsys.readouterr().err.splitlines()[-1] == "train: done"
