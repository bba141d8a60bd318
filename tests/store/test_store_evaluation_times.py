"""When an evaluation was made and how long it took is stored, and is no part of what makes it another one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from older_store import take_back

from nas.core import ArchConfig, Evaluation, JobSpec, Source
from nas.core.stopwatch import Stopwatch, parted
from nas.store import open_store

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=timezone(timedelta(hours=2)))
TIMED = Evaluation(
    ArchConfig({"width": 0.5}),
    {"macs": 1.0},
    Source.MEASURED,
    "search",
    made=MOMENT,
    seconds={"export": 0.25, "accuracy": 1.5},
)


def test_times_come_back(store_url: str, spec: JobSpec) -> None:
    store = open_store(store_url)
    job = store.create_job(spec)
    other = replace(TIMED, arch=ArchConfig({"width": 1.0}), made=None, seconds={})
    store.add(job, [TIMED, other])
    back, untimed = store.evaluations(job)
    assert back.made == MOMENT
    assert back.made is not None
    assert back.made.utcoffset() == timedelta(0)
    assert back.seconds == {"export": 0.25, "accuracy": 1.5}
    assert (untimed.made, untimed.seconds) == (None, {})
    assert store.add(job, [replace(TIMED, made=datetime.now(UTC), seconds={})]) == 0  # the first one stays
    assert store.evaluations(job)[0].made == MOMENT
    store.close()


def test_evaluations_of_an_older_store_have_none(store_url: str, spec: JobSpec) -> None:
    store = open_store(store_url)
    job = store.create_job(spec)
    store.add(job, [TIMED])
    take_back(store, "0002")
    again = open_store(store_url)
    (row,) = again.evaluations(job)
    assert row == TIMED
    assert (row.made, row.seconds) == (None, {})
    again.add(job, [replace(TIMED, stage="verify")])
    assert again.evaluations(job, "verify")[0].made == MOMENT
    again.close()


def test_a_stopwatch_adds_up_and_its_times_are_told_from_metrics() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.part("accuracy"):
            pass
    with pytest.raises(ZeroDivisionError), watch.part("export"):
        _ = 1 / 0
    assert set(watch.seconds) == {"accuracy", "export"}
    assert all(0 <= seconds < 1 for seconds in watch.seconds.values())
    metrics, seconds = parted({"error.seg": 0.5} | watch.named())
    assert metrics == {"error.seg": 0.5}
    assert seconds == watch.seconds
