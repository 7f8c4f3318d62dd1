"""How much memory this process may use, and what follows from it: what is done otherwise on small machines,
and which model cannot run at all.

Reading is at the edge (`available`, `ceiling`), deciding is pure; everything is in bytes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from latebolt import cgroups, system

MIB: Final = 1 << 20
# Below this a second session over the same graph is not worth its 40 to 70 MB.
SMALL: Final = 1024 * MIB
# What Python, NumPy, ONNX Runtime and our own code take before there is a model.
_BASE: Final = 100 * MIB
# What a byte of a tokenizer.json and of a graph takes once it is loaded. XLM-RoBERTa's 4.5 MB become 165 MB,
# BERT's 0.5 MB 9 MB. Graphs are held once, and again where weights are laid out for their kernels.
_A_TOKENIZER_BYTE: Final = 36
_A_GRAPH_BYTE: Final = 1
# Arrays of more than so many bytes are given back to the system one by one, see `do_with_little`.
_LARGE: Final = 1 * MIB


def available(root: Path = Path("/")) -> int | None:
    """Bytes that can be had now without anything being put out: of the machine, or of what limits this
    process; None where nothing is known.

    Args:
        root: where `proc` and what it names are.
    """
    found = [kib for line in cgroups.lines(root / "proc/meminfo") if (kib := _kib(line, "MemAvailable"))]
    for folder in cgroups.folders("memory", root):
        limit = _limit_of(folder)
        if limit is not None:
            found.append(max(0, limit - _used_in(folder)))
    return min(found, default=None)


def ceiling(root: Path = Path("/")) -> int | None:
    """Bytes that this process can never pass: of its control groups and its resource limits; None for none.

    What else runs on the machine is not in it, as that may end.
    """
    limits = [_limit_of(folder) for folder in cgroups.folders("memory", root)]
    return min(
        (limit for limit in (*limits, system.lowest_limit("RLIMIT_AS", "RLIMIT_DATA")) if limit is not None),
        default=None,
    )


_asked = False  # by `do_with_little`


def is_small() -> bool:
    """Whether this process should do with little: it was asked to, or there was little when it began."""
    return _asked or _began_small()


@functools.cache
def _began_small() -> bool:
    limit, free = ceiling(), available()
    return wants_little(min((n for n in (limit, free) if n is not None), default=None))


def do_with_little() -> None:
    """Save memory in this process from now on, as where there is little; large arrays go back at once."""
    global _asked
    _asked = True
    system.own_mapping(_LARGE)
    system.one_heap()


def wants_little(n_bytes: int | None) -> bool:
    """Whether to save memory at the cost of some speed, where there is so much of it (None: nobody knows)."""
    return n_bytes is not None and n_bytes < SMALL


def least_bytes(tokenizer_bytes: int, graph_bytes: int) -> int:
    """What an encoder takes at least, by the sizes of its files; below it, loading would end the process."""
    return _BASE + _A_TOKENIZER_BYTE * tokenizer_bytes + _A_GRAPH_BYTE * graph_bytes


def _kib(line: str, name: str) -> int | None:
    """Bytes by a line such as "MemAvailable:  123 kB", if it is that of the name."""
    words = line.split()
    return 1024 * int(words[1]) if len(words) >= 2 and words[0] == f"{name}:" and words[1].isdigit() else None


def _limit_of(folder: Path) -> int | None:
    """Bytes that a control group may use; None for no limit, which version 1 says by a number near 2^63."""
    values = cgroups.lines(folder / "memory.max") or cgroups.lines(folder / "memory.limit_in_bytes")
    number = int(values[0]) if values and values[0].isdigit() else None
    return number if number is not None and number < 1 << 60 else None


def _used_in(folder: Path) -> int:
    """Bytes that a control group uses, without cached pages of files, which it would give up."""
    values = cgroups.lines(folder / "memory.current") or cgroups.lines(folder / "memory.usage_in_bytes")
    used = int(values[0]) if values and values[0].isdigit() else 0
    for line in cgroups.lines(folder / "memory.stat"):
        name, _, number = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and number.isdigit():
            return max(0, used - int(number))
    return used
