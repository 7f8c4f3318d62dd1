"""The server's data folder: made at the start and never again, and watched while the server runs.

Where it vanishes (a volume that is unmounted, a hand that slips) requests are refused until it is back. A new
folder in its place would take what nobody finds again.
"""

from __future__ import annotations

import contextlib
import os
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
        self._was_there = self.is_there

    @property
    def is_there(self) -> bool:
        """Whether the folder, and that of the indexes, are those that were found first."""
        try:
            found = tuple(_identity(each) for each in self._watched)
            if self._known is None:
                self._hold()
                self._known = found
        except OSError:
            return False
        return found == self._known

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


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino
