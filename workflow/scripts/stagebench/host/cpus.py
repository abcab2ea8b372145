"""How many CPUs this process may use at a time: its affinity mask, and the quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable(root: Path | None = None) -> int:
    """Return how many CPUs this process may use at a time, at least one.

    That is as many as its affinity mask has, or fewer where a control group has a quota, as containers and services do.
    Part of a CPU counts as one: a thread that is stopped now and then does more than none.

    Args:
        root: folder in which `proc` and `sys` are; the root of all if there is none.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(quota) for quota in _quotas(root or _ROOT))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in CPUs, of this process's control groups and of all that these are in."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0" and not controllers:
            mounts, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _quota_of_v2
        elif "cpu" in controllers.split(","):
            mounts, read = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"), _quota_of_v1
        else:
            continue
        # A container may see its group's path from outside and its files from inside: what is not there is left out.
        inside = PurePosixPath(group.lstrip("/"))
        for mount in mounts:
            for part in (inside, *inside.parents):
                if (quota := read(root / mount / part)) is not None:
                    yield quota


def _quota_of_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_of_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None  # -1: none


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
