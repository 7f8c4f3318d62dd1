"""The control groups of this process, by which a container or a service is held to a part of its machine.

Finds folders and reads lines; what stands in them is for `cpus` and `memory`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of the control groups that may limit this process, of both versions.

    Args:
        controller: "cpu" or "memory", by which version 1 keeps its groups apart.
        root: where `proc` and what it names are.
    """
    paths: dict[bool, str] = {}  # whether version 2 -> the process's group
    for line in lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[True] = path
        elif controller in controllers.split(","):
            paths[False] = path
    for line in lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        is_v1 = kind == "cgroup" and controller in options.split()[-1].split(",")
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


def lines(path: Path) -> list[str]:
    """Of a file of the system; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
