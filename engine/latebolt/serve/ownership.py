"""Which server writes to a data folder: one at a time. Another may read there, and wait for its turn."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from latebolt.errors import LateboltError
from latebolt.file_lock import FileLock


class Ownership:
    """The right to write to a data folder; the operating system takes it back from a process that died.

    Leaving the block gives it up.

    Raises:
        LateboltError: the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / ".server.lock")
        self.is_held = False

    def __enter__(self) -> Ownership:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def take(self) -> bool:
        """Whether it is ours now, if nobody else has it."""
        if not self.is_held:
            try:
                self.is_held = self._lock.acquire()
            except FileNotFoundError:  # it has vanished, and is not made anew
                return False
            except OSError as error:
                raise self._unusable(error) from error
        return self.is_held

    def _unusable(self, error: OSError) -> LateboltError:
        return LateboltError(f"{self._folder}: cannot be used as data folder ({error.strerror}).")
