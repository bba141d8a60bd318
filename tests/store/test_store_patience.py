"""A PostgreSQL that is away for a while: whoever writes waits, nothing is lost, nothing is there twice, and then it is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from postgres import Server

from nas.core import ArchConfig, Evaluation, JobSpec, Source, Stage, StoreError
from nas.store import SqlStore, open_store, patience


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own, which it may stop."""
    with Server.temporary() as made:
        yield made


def test_a_server_that_is_away_is_waited_for(server: Server, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert patience.PATIENCE_S >= 70
    store = open_store(server.url.render_as_string())
    job = store.create_job(spec)
    lease = store.claim(job, "host:1")
    assert lease is not None
    written = 0

    def write() -> None:
        nonlocal written
        while written < 400:
            row = Evaluation(ArchConfig({"index": written}), {"macs": 1.0}, Source.MEASURED, "search")
            assert lease.add(job, iter([row])) in (0, 1)  # 0 where the answer to the first call was lost
            lease.log(job, f"line {written}")
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        reached = written + 20
        while written < min(reached, 400):
            time.sleep(0.001)
        server.stop()  # in the middle of whatever it does
        time.sleep(0.3)
        assert writer.is_alive()
        server.start()
    writer.join(60)
    assert written == 400
    assert [row.arch["index"] for row in store.evaluations(job)] == list(range(400))
    assert [event.message for event in store.events(job)] == [f"line {i}" for i in range(400)]

    server.stop()
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"did not answer: .*; check its disk or server and try again"):
        lease.progress(job, Stage.TRAIN, 1, 2, "steps")
    with pytest.raises(StoreError):
        lease.log(job, "a last word")  # which is not waited for again
    assert time.monotonic() - began < 5
    server.start()
    lease.log(job, "here again")
    store.close()


def test_what_does_not_pass_is_not_waited_for(store: SqlStore, job: str) -> None:
    with store.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE events RENAME TO elsewhere")
    try:
        began = time.monotonic()
        with pytest.raises(Exception, match="events"):
            store.log(job, "no such table")
        assert time.monotonic() - began < 5
    finally:
        with store.write() as session:
            session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO events")
