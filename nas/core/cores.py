"""How many processor cores this process may use: what the system shows, less what it or its container withholds."""

from __future__ import annotations

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores(groups: Path = GROUPS, own_group: Path = OWN_GROUP) -> int:
    """Return the cores of the machine that this process may run on, at least one.

    Fewer than the machine has where an affinity is set (``taskset``, a cpuset, a batch system) or where a control group has a
    quota of processor time (``docker --cpus``, Kubernetes); a quota of a part of a core counts as that core.

    Args:
        groups: Where control groups are.
        own_group: Which one this process is in.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for folder in _folders(groups, own_group) if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *quotas]))


def _folders(groups: Path, own_group: Path) -> list[Path]:
    """Return the folders of this process's groups and of all groups above them: the least quota of them counts."""
    found = []
    for line in _read(own_group).splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        root = groups / kinds if kinds else groups
        inner = root / path.lstrip("/")
        found += [inner, *(above for above in inner.parents if above.is_relative_to(root))]
    return list(dict.fromkeys([*found, groups, groups / "cpu"]))


def _quota(folder: Path) -> float | None:
    """Return the cores' worth of time that a group has, by either version of control groups; None where it has no limit."""
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not quota.isdigit() or not period.isdigit() or int(quota) == 0 or int(period) == 0:  # "max", -1 or no such file
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
