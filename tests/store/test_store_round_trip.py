"""Whatever a job or an evaluation holds comes back equal, through the database."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.core import ArchConfig, Evaluation, JobSpec, Latency, Objective, Source, TaskSpec
from nas.store import SqlStore
from nas.store.encoding import dump, load, plain

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | st.integers() | FINITE | st.text()
JSON = st.recursive(SCALAR, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3), max_leaves=5)
ARCHS = st.builds(ArchConfig, st.dictionaries(st.text(), st.integers() | FINITE | st.text(), max_size=6))
INT64 = st.integers(-(2**63), 2**63 - 1)
MEASURES = st.dictionaries(TEXT, FINITE)
EVALUATIONS = st.builds(
    Evaluation,
    arch=ARCHS,
    metrics=MEASURES,
    source=st.sampled_from(Source),
    stage=TEXT,
    split=TEXT,
    device=st.none() | TEXT.filter(bool),
    checkpoint=st.none() | TEXT,
    seed=INT64,
    std=MEASURES,
    failure=TEXT,
)
THROUGH_A_DATABASE = settings(
    deadline=None, max_examples=25, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, every field of a dataclass included."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return st.builds(kind, **{name: anything(hint) for name, hint in typing.get_type_hints(kind).items()})
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is types.UnionType:
        return st.one_of([st.none() if one is types.NoneType else anything(one) for one in arguments])
    if origin is tuple:
        return st.lists(anything(arguments[0]), min_size=1, max_size=3).map(tuple)  # a job without tasks is damaged
    if origin is dict:
        return st.dictionaries(st.text(), JSON, max_size=3)
    return {str: st.text(), int: st.integers(), float: FINITE, bool: st.booleans()}[kind]


@given(spec=anything(JobSpec))
@THROUGH_A_DATABASE
def test_a_job(store: SqlStore, spec: JobSpec) -> None:
    job = store.create_job(spec)
    back = store.job(job).spec
    assert back == spec
    assert repr(back) == repr(spec)  # the types of numbers and sequences too, which == does not tell apart


@given(rows=st.lists(EVALUATIONS, max_size=3, unique_by=lambda row: row.arch.key))
@THROUGH_A_DATABASE
def test_evaluations(store: SqlStore, rows: list[Evaluation]) -> None:
    job = store.create_job(JobSpec("", (TaskSpec("seg"),), (Objective("macs"),)))
    assert store.add(job, rows) == len(rows)
    assert store.evaluations(job) == rows


@given(value=anything(Latency))
@settings(derandomize=True, database=None)
def test_a_latency(value: Latency) -> None:
    assert load(Latency, dump(value)) == value


def test_a_job_of_an_older_version_takes_the_defaults_of_what_it_lacks() -> None:
    spec = JobSpec("old", (TaskSpec("seg"),), (Objective("macs"),), devices=("pi",))
    older = {name: item for name, item in plain(spec).items() if name not in ("seed", "search")} | {"forgotten": 1}
    assert load(JobSpec, dump(older)) == spec


def test_what_json_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match=r"made of JSON values: got .* of type object"):
        dump({"key": object()})
