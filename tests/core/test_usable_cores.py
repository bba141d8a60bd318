"""Cores that a process may use: what affinity and either version of control groups leave it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas.core.cores import usable_cores

ALLOWED = len(os.sched_getaffinity(0))


def group(root: Path, name: str, **files: str) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (root / name / file.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def cores(tmp_path: Path, own: str) -> int:
    (tmp_path / "own").write_text(own)
    return usable_cores(tmp_path / "groups", tmp_path / "own")


def test_without_groups_affinity_alone_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == ALLOWED
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path, tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("limit", "expected"), [("400000 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 64), ("", 64)]
)
def test_a_quota_of_the_second_version(tmp_path: Path, limit: str, expected: int) -> None:
    group(tmp_path / "groups", "job/step", cpu__max=limit)
    assert cores(tmp_path, "0::/job/step\n") == expected


@pytest.mark.usefixtures("many")
def test_the_least_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "groups", "job/step", cpu__max="800000 100000")
    group(tmp_path / "groups", "job", cpu__max="300000 100000")
    assert cores(tmp_path, "0::/job/step\n") == 3


@pytest.mark.usefixtures("many")
def test_inside_a_container_its_own_group_is_the_root(tmp_path: Path) -> None:
    group(tmp_path / "groups", "", cpu__max="200000 100000")
    assert cores(tmp_path, "0::/\n") == 2
    assert cores(tmp_path, "0::/not/seen/from/here\n") == 2


@pytest.mark.usefixtures("many")
def test_a_quota_of_the_first_version(tmp_path: Path) -> None:
    group(tmp_path / "groups", "cpu,cpuacct/docker/feed", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    group(tmp_path / "groups", "cpu,cpuacct/docker", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cores(tmp_path, "12:pids:/docker/feed\n4:cpu,cpuacct:/docker/feed\n") == 3
    assert cores(tmp_path, "4:cpuset:/docker/feed\n") == 64
