"""The data of a job: loaded once, kept, and compared whenever it is loaded again."""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.core import DataError, DataSpec, JobSpec, Objective, Task, TaskSpec
from nas.data import MultiTaskData, Split, input_spec
from nas.service.job_data import FILE, begin_data, job_data, stored_data
from nas.store import SqlStore, open_store

TASKS = (Task("side", "classification", 2),)
CALLS = itertools.count()


def loaded(seed: int | None = 0, count: int = 12) -> MultiTaskData:
    """A pool dealt into train and test; without a seed it is dealt anew at every call."""
    next(CALLS)
    pool = np.random.default_rng(1)
    images = torch.from_numpy(pool.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8))
    order = np.random.default_rng(seed).permutation(count)
    whole = Split(images, {"side": torch.arange(count) % 2})
    train, test = whole.subset(order[3:]), whole.subset(order[:3])
    return MultiTaskData("pool", TASKS, input_spec(train), train, train.subset([]), test)


def spec_of(**options: object) -> JobSpec:
    name = f"python:{__name__}:loaded"
    objectives = (Objective("error.side"), Objective("macs"))
    return JobSpec("job", (TaskSpec("side"),), objectives, data=DataSpec(name, options=options))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    monkeypatch.setenv("NAS_TRUST", f"python:{__name__}:loaded")
    found = open_store(str(tmp_path / "home" / "nas.db"))
    yield found
    found.close()


def test_a_job_keeps_its_data_and_nobody_loads_it_again(store: SqlStore) -> None:
    job = store.create_job(spec_of())
    first = begin_data(store, job)
    calls = next(CALLS)
    again = job_data(store.job(job).spec, store.folder(job))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(stored_data(store, job).test.targets["side"], first.test.targets["side"])
    assert next(CALLS) == calls + 1
    assert (store.folder(job) / FILE).is_file()


def test_a_loader_without_a_seed_is_told_before_anything_is_trained(store: SqlStore) -> None:
    job = store.create_job(spec_of(seed=None))
    with pytest.raises(DataError, match=r"a loader gives the same data every time: .* seed whatever the loader draws"):
        begin_data(store, job)
    assert not (store.folder(job) / FILE).exists()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"count": 14}])
def test_a_driver_that_goes_on_meets_other_data(
    store: SqlStore, changed: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.create_job(spec_of())
    begin_data(store, job)
    begin_data(store, job)  # the same again: nothing to say
    monkeypatch.setattr(sys.modules[__name__], "loaded", functools.partial(ORIGINAL, **changed))
    with pytest.raises(DataError, match="is not what it was when the job began"):
        begin_data(store, job)
    (store.folder(job) / FILE).unlink()
    with pytest.raises(DataError, match="is not what it was when the job began"):
        stored_data(store, job)


def test_a_reused_supernet_was_trained_on_the_same_data(store: SqlStore) -> None:
    former = store.create_job(spec_of())
    begin_data(store, former)
    same, other = (
        dataclasses.replace(spec, training=dataclasses.replace(spec.training, reuse=former))
        for spec in (spec_of(), spec_of(seed=2))
    )
    job = store.create_job(same)
    begin_data(store, job)
    assert (store.folder(job) / FILE).samefile(store.folder(former) / FILE)  # stored once
    with pytest.raises(DataError, match=f"is not what it was in job {former}, whose supernet is reused"):
        begin_data(store, store.create_job(other))


ORIGINAL = loaded
