"""The server's data folder: made at the start and never again, and watched while the server runs.

Where it vanishes (a volume that is unmounted, a hand that slips) requests are refused until it is back. A new
folder in its place would take what nobody finds again.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path
from typing import Final

from latebolt import system

INDEXES: Final = "indexes"
JOBS: Final = "jobs"

Identity = tuple[int, int]  # device and number: of no other folder while this one is open


def make_folders(data: Path, snapshots: Path) -> None:
    """Make what is missing. For the time before a start.

    Raises:
        OSError: the system refuses it.
    """
    for each in (data / INDEXES, data / JOBS, snapshots):
        each.mkdir(parents=True, exist_ok=True)


class DataFolder:
    """A data folder as a process finds it.

    Args:
        path: absolute. Where there is none yet, as for a process that replaces one after the folder has gone,
            the first one that appears is taken for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._watched = (path, path / INDEXES)
        self._known: tuple[Identity, ...] | None = None
        self._held: list[int] = []
        self._changed = 0  # ns, when the system last wrote to what it keeps of the folder: a move does that
        self._missed = -math.inf  # seconds of time.monotonic(): when it was last found gone, or to have moved
        self._was_there = self.is_there

    @property
    def is_there(self) -> bool:
        """Whether the folder, and that of the indexes, are those that were found first."""
        try:
            read = tuple(each.stat() for each in self._watched)
            found = tuple((each.st_dev, each.st_ino) for each in read)
            if self._known is None:
                self._hold()
                self._known, self._changed = found, read[0].st_ctime_ns
        except OSError:
            found = ()
        is_there = bool(found) and found == self._known
        if not is_there or read[0].st_ctime_ns != self._changed:
            self._missed = time.monotonic()
        if is_there:
            self._changed = read[0].st_ctime_ns
        return is_there

    def was_there_since(self, moment: float) -> bool:
        """Whether it is there and has not been away in between, as far as can be told.

        Where it was moved away and back, whoever worked in it meanwhile met whatever was missing first, and
        finds the folder whole when they ask why. What tells is the time of its last change, which local file
        systems of Linux set with a move; elsewhere the absence must have been seen.

        Args:
            moment: seconds of `time.monotonic()`.
        """
        return self.is_there and self._missed < moment

    def look(self) -> tuple[bool, bool]:
        """Whether it is there, and whether that is news since the last look."""
        before, self._was_there = self._was_there, self.is_there
        return self._was_there, self._was_there != before

    def close(self) -> None:
        """Let go of it."""
        while self._held:
            os.close(self._held.pop())

    def _hold(self) -> None:
        """Keep the folders open, so that no other one gets their numbers, not even when they are removed."""
        if not system.OPENS_FOLDERS:  # there none can be removed that is in use
            return
        with contextlib.ExitStack() as stack:
            for each in self._watched:
                handle = os.open(each, system.FOLDER_FLAGS)
                stack.callback(os.close, handle)
                self._held.append(handle)
            stack.pop_all()
