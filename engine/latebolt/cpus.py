"""How many CPUs this process may keep busy: those it may run on, and no more than its container's quota.

A container on a large machine sees all of its CPUs and is stopped for the rest of each period once it has
used its share, so threads beyond the quota make everything wait.
"""

from __future__ import annotations

import functools
from pathlib import Path

from latebolt import cgroups, system


def available_cpus() -> int:
    """CPUs this process may keep busy, at least 1; a quota of 2.5 counts as 2."""
    allowed = system.processors()
    quota = _quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


@functools.cache
def _quota() -> float | None:
    return cgroup_quota()


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups of this process allow, the least of them all; None for no limit.

    Args:
        root: where `proc` and what it names are.
    Source: docs.kernel.org, "Control Group v2" (cpu.max) and "CFS Bandwidth Control" (cpu.cfs_quota_us).
    """
    found = [_read_quota(folder) for folder in cgroups.folders("cpu", root)]
    return min((quota for quota in found if quota is not None), default=None)


def _read_quota(folder: Path) -> float | None:
    """CPUs that one group allows; None for no limit, and where nothing is said."""
    values = [line.split() for line in cgroups.lines(folder / "cpu.max")]  # "max 100000" or "150000 100000"
    if not values:
        values = [[*cgroups.lines(folder / "cpu.cfs_quota_us"), *cgroups.lines(folder / "cpu.cfs_period_us")]]
    try:
        quota, period = (float(value) for value in values[0])
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None
