"""How many CPUs a process may use: its affinity mask and the quotas of its control groups, on made-up trees."""

from __future__ import annotations

import os

import pytest

from stagebench.engines import cpu
from stagebench.host import cpus, identity

V1 = "12:pids:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A machine of 64 CPUs; returns a function that writes its control groups and says how many CPUs are usable."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))

    def usable(groups: str, files: dict[str, str]) -> int:
        for name, text in {"proc/self/cgroup": groups, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cpus.usable(tmp_path)

    return usable


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        ("", {}, 64),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "800000 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "25600000 100000\n"}, 64),
        # The narrowest of all that the process is in.
        (
            "0::/a.slice/b.scope\n",
            {"sys/fs/cgroup/a.slice/cpu.max": "400000 100000", "sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000"},
            4,
        ),
        (
            "0::/a.slice/b.scope\n",
            {"sys/fs/cgroup/a.slice/cpu.max": "4000 1000", "sys/fs/cgroup/a.slice/b.scope/cpu.max": "3000 1000"},
            3,
        ),
        # Another group's is none of its business.
        ("0::/a.slice\n", {"sys/fs/cgroup/b.slice/cpu.max": "100000 100000"}, 64),
        # Version 1; in a container the path is the one outside, of which the mount shows the end.
        (
            V1,
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "600000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            6,
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        ("1:cpu:/\n0::/\n", {"sys/fs/cgroup/unified/cpu.max": "700000 100000\n"}, 7),
    ],
)
def test_a_quota_limits_the_cpus(groups, files, wanted, tree):
    assert tree(groups, files) == wanted


def test_an_affinity_mask_limits_them_too(tree, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert tree("0::/\n", {"sys/fs/cgroup/cpu.max": "800000 100000\n"}) == 2


def test_threads_and_the_identity_of_a_device_follow(tree, tmp_path, monkeypatch):
    tree("0::/\n", {"sys/fs/cgroup/cpu.max": "800000 100000\n"})
    monkeypatch.setattr(cpus, "_ROOT", tmp_path)
    assert cpu.cpus() == 8
    assert identity.identity().cpu_count == 8
