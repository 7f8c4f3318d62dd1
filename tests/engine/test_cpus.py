"""CPUs that a process may keep busy: affinity, and the quotas of containers as their files say them."""

from __future__ import annotations

import os

import pytest

from latebolt import cpus

V2_MOUNT = "31 23 0:28 {root} {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "32 31 0:29 {root} {place} rw,relatime - cgroup cgroup rw,{controllers}"


@pytest.fixture
def machine(tmp_path):
    """Writes the files of a machine, and gives the quota they say."""

    def quota(groups, mounts, files):
        proc = tmp_path / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text("\n".join(groups) + "\n")
        (proc / "mountinfo").write_text("\n".join(mounts) + "\n")
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return cpus.cgroup_quota(tmp_path)

    return quota


def v2(root="/", place="/sys/fs/cgroup"):
    return V2_MOUNT.format(root=root, place=place)


def v1(controllers, root="/", place="/sys/fs/cgroup/cpu"):
    return V1_MOUNT.format(root=root, place=place, controllers=controllers)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None), ("nonsense\n", None)],
)
def test_version_2(machine, content, expected):
    assert machine(["0::/"], [v2()], {"sys/fs/cgroup/cpu.max": content}) == expected


def test_version_2_takes_the_least_of_all_groups_above(machine):
    files = {
        "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n",
    }
    assert machine(["0::/pod/box"], [v2()], files) == 1.5


def test_a_mount_that_begins_at_the_containers_own_group(machine):
    files = {"sys/fs/cgroup/cpu.max": "300000 100000\n"}
    assert machine(["0::/docker/abc"], [v2(root="/docker/abc")], files) == 3


def test_a_path_that_leads_out_of_the_mount(machine):
    files = {"sys/fs/cgroup/cpu.max": "300000 100000\n"}
    assert machine(["0::/../../docker/abc"], [v2(root="/docker/xyz")], files) == 3


@pytest.mark.parametrize("controllers", ("cpu", "cpu,cpuacct", "cpuacct,cpu"))
def test_version_1(machine, controllers):
    files = {
        "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    groups = ["5:memory:/box", f"4:{controllers}:/box", "3:cpuset:/", "0::/"]
    mounts = [
        v1("memory", place="/sys/fs/cgroup/memory"),
        v1(controllers),
        v2(place="/sys/fs/cgroup/unified"),
    ]
    assert machine(groups, mounts, files) == 2.5


def test_no_quota_and_no_files(machine):
    assert machine(["0::/"], [v2()], {}) is None


def test_a_system_without_control_groups(tmp_path):
    assert cpus.cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "allowed", "expected"),
    [(None, 8, 8), (2.0, 8, 2), (2.5, 8, 2), (0.5, 8, 1), (16.0, 4, 4), (3.0, 1, 1)],
)
def test_the_lesser_of_quota_and_affinity_counts(monkeypatch, quota, allowed, expected):
    monkeypatch.setattr(cpus, "_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert cpus.available_cpus() == expected
