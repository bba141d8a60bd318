"""Operators of profiles, and stores made before profiles had any."""

from __future__ import annotations

from older_store import take_back

from nas.core import ArchConfig, Fingerprint, JobSpec, Latency, Profile
from nas.core.operator import Operator, OperatorTime
from nas.store import SqlStore, open_store

LATENCY = Latency(1.5, 0.1, 0.01, 1.4, 1.3, 1.5, 1.9, 100, False)
FINGERPRINT = Fingerprint("Some CPU", 4, "1.32.0", "CPUExecutionProvider", 1)
OPERATORS = (
    OperatorTime(Operator("größe/Conv", "Conv+Add", "float", (1, 3, 8, 8), (16, 3, 3, 3), (1, 16, 8, 8)), 0.25),
    OperatorTime(Operator("DequantizeLinear from a to b", "DequantizeLinear", "uint8", (1, 16), (), (1, 16)), 1e-3),
)


def profile(index: int, operators: tuple[OperatorTime, ...]) -> Profile:
    return Profile(ArchConfig({"index": index}), "local", FINGERPRINT, LATENCY, {"macs": 1e6}, operators)


def test_operators_come_back_as_they_were(store: SqlStore, spec: JobSpec) -> None:
    job = store.create_job(spec)
    rows = [profile(0, OPERATORS), profile(1, ())]
    assert store.add_profiles(job, rows) == 2
    assert store.profiles(job) == rows


def test_profiles_of_an_older_store_have_none(store_url: str, spec: JobSpec) -> None:
    store = open_store(store_url)
    job = store.create_job(spec)
    store.add_profiles(job, [profile(0, ())])
    take_back(store, "0001")
    again = open_store(store_url)
    assert again.profiles(job) == [profile(0, ())]
    again.add_profiles(job, [profile(1, OPERATORS)])
    assert [row.operators for row in again.profiles(job)] == [(), OPERATORS]
    again.close()
