"""How many CPUs this process may keep busy: those it may run on, and no more than its container's quota.

A container on a large machine sees all of its CPUs and is stopped for the rest of each period once it has
used its share, so threads beyond the quota make everything wait.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from latebolt import system


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
    found = [_read_quota(folder) for folder in _groups(root)]
    return min((quota for quota in found if quota is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that may limit this process's CPUs, of both versions."""
    paths: dict[bool, str] = {}  # whether version 2 -> the process's group
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[True] = path
        elif "cpu" in controllers.split(","):
            paths[False] = path
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        is_v1 = kind == "cgroup" and "cpu" in options.split()[-1].split(",")
        version_2 = kind == "cgroup2"
        if not (is_v1 or version_2) or version_2 not in paths:
            continue
        mounted, place = fields.split()[3:5]
        yield from _up(root / place.lstrip("/"), mounted, paths[version_2])


def _up(place: Path, mounted: str, path: str) -> Iterator[Path]:
    """The folder of a group, and those of the groups that hold it, as far as this process sees them."""
    # In a container the mount often begins at the container's own group, or the path leads out of it.
    mounted = mounted.rstrip("/")
    inside = path.removeprefix(mounted) if f"{path}/".startswith(f"{mounted}/") else ""
    parts = [part for part in inside.split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        yield place.joinpath(*parts[:n])


def _read_quota(folder: Path) -> float | None:
    """CPUs that one group allows; None for no limit, and where nothing is said."""
    values = [line.split() for line in _lines(folder / "cpu.max")]  # "max 100000" or "150000 100000"
    if not values:
        values = [[*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]]
    try:
        quota, period = (float(value) for value in values[0])
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
