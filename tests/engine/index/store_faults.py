"""Lets something happen at the n-th file operation of a block: an error, Ctrl-C, the end of the process.

A profile function sees every call of a C function, so nothing in the code under test has to be replaced, and
an operation added later is covered without a word here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# What can fail for want of space.
GROWING = frozenset({"open", "write", "flush", "fsync", "mkdir", "replace", "execute", "executemany"})
OPERATIONS = GROWING | {"close", "seek", "rename", "unlink", "remove", "rmdir", "flock", "ftruncate"}


class Count:
    """Operations seen."""

    n = 0


@contextlib.contextmanager
def fault_at(n: int, action: Callable[[], None], operations: frozenset[str] = OPERATIONS) -> Iterator[Count]:
    """Call `action` before operation n (from 0); it may raise. The count tells how many there were."""
    count = Count()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and arg.__name__ in operations and frame.f_code.co_filename != __file__:
            count.n += 1
            if count.n == n + 1:
                sys.setprofile(None)
                action()

    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(None)


@contextlib.contextmanager
def fault_at_line(n: int, action: Callable[[], None]) -> Iterator[Count]:
    """The same before the n-th line that a module of the index executes: Ctrl-C comes between any two."""
    count = Count()
    folder = f"{os.sep}latebolt{os.sep}index{os.sep}"

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if folder not in frame.f_code.co_filename:
            return None
        if event == "line":
            count.n += 1
            if count.n == n + 1:
                sys.settrace(None)
                action()
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(None)


def state_of(folder: Path) -> str:
    """Names and bytes of all that a folder holds.

    Hundreds of faults end in a few states. What an index makes of one it makes of every other that is the
    same: a test asks all of that once, and for the others only what this process may still hold of the index.
    """
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        state.update(f"{path.relative_to(folder)} {path.is_file()} {len(content)}\n".encode() + content)
    return state.hexdigest()
