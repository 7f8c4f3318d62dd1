"""`ObjectStore`: the objects at a URI, with patience for a store that is away and words for one that refuses.

A try that failed may have done its work: what was put is there then, byte for byte, and a creation is held
against what is there before it counts as lost. Errors name the URI without its passwords.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from latebolt.errors import IndexCorrupt, LateboltError, ObjectStoreError, RuntimeUnavailable
from latebolt.index.places import masked
from latebolt.objects import commits
from latebolt.objects.commits import Commit, Published
from latebolt.objects.drivers import Driver, Listed, driver_of

T = TypeVar("T")

# A listing may miss what came while it was made, and what went: the only commit, and the one before it.
_LOOKS: Final = 4
_PAUSE_SECONDS: Final = 0.25  # before the second try; they grow
# What trying again does not help: rights, and requests that make no sense.
_FINAL: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOSYS, errno.EISDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_KEYS: Final = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError")


class ObjectStore:
    """The objects at a URI. Threads may share it.

    Args:
        driver: what does the work; that of the URI by default.
        pause: seconds before a second try.
    Raises:
        InvalidInput: the URI names no place for objects.
        RuntimeUnavailable: what opens it is not installed.
    """

    def __init__(self, uri: str, driver: Driver | None = None, pause: float = _PAUSE_SECONDS) -> None:
        try:
            import tenacity  # noqa: F401
        except ImportError as error:
            raise RuntimeUnavailable(
                "what object stores are asked with is not installed. Run \"pip install 'latebolt[objects]'\"."
            ) from error
        self.uri = masked(uri.rstrip("/"))
        self._driver, self._pause = driver or driver_of(uri), pause

    def place_of(self, name: str) -> str:
        """An object for people."""
        return f"{self.uri}/{name}"

    def listed(self, folder: str) -> list[Listed]:
        """The objects in a folder, in no order; none where there is no such folder."""
        return self._patient(folder, lambda: self._driver.listed(folder))

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, fewer at its end.

        Raises:
            FileNotFoundError: there is none.
            ObjectStoreError: the store refuses it, or cannot be reached.
        """
        try:
            return self._patient(name, lambda: self._driver.read(name, start, stop))
        except FileNotFoundError as error:
            raise FileNotFoundError(name) from error

    def upload(self, source: Path, name: str) -> None:
        """Put a file there.

        Raises:
            FileNotFoundError: the file is gone.
            ObjectStoreError: see `read`.
        """

        def put() -> None:
            try:
                self._driver.upload(source, name)
            except FileNotFoundError as error:
                if source.exists():  # a bucket that is not there
                    raise ObjectStoreError(self._message(name, error)) from error
                raise

        self._patient(name, put)

    def write(self, name: str, content: bytes) -> None:
        """Put bytes there, over what is there."""
        self._patient(name, lambda: self._driver.write(name, content), puts=True)

    def create(self, name: str, content: bytes) -> bool:
        """Put bytes there unless something else is; whether they are there now.

        Args:
            content: no other writer's, so that it tells whether an earlier try has come through.
        """

        def put() -> bool:
            try:
                self._driver.create(name, content)
            except Exception as error:  # whatever it was, what is there decides
                there = self._there(name, len(content) + 1)
                if there is None:
                    if isinstance(error, FileExistsError):
                        return False  # and has gone again
                    raise
                return there == content
            return True

        return self._patient(name, put, puts=True)

    def refuses_overwriting(self, name: str, content: bytes) -> bool:
        """Whether the store lets one of several create an object, which is tried with this one.

        Stores that speak S3 and pay no heed to conditions exist, and say nothing of it.
        """

        def refused() -> bool:
            try:
                self._driver.create(name, content)
            except FileExistsError:
                return True
            except OSError as error:
                if error.errno == errno.EINVAL and self._there(name, len(content)) is not None:
                    return True  # stores have several words for it
                raise
            return False

        tries = (self._patient(name, refused, puts=True) for _ in range(2))
        return any(tries) and self._driver.exclusive

    def remove(self, name: str) -> None:
        """Away with an object, or nothing where it is not."""

        def away() -> None:
            try:
                self._driver.remove(name)
            except FileNotFoundError:
                return

        self._patient(name, away)

    # Commits

    def commit_numbers(self) -> dict[int, Listed]:
        """The commits that are there, by number, ascending."""
        for _ in range(_LOOKS):
            found = {commits.number_of(each.name): each for each in self.listed(commits.COMMITS)}
            known = {number: found[number] for number in sorted(n for n in found if n is not None)}
            if known:
                break
        return known

    def newest_number(self) -> int | None:
        """The number of the newest commit; None where there is none."""
        return max(self.commit_numbers(), default=None)

    def commit(self, number: int, n_bytes: int) -> Published:
        """A commit, checked.

        Args:
            n_bytes: its size, as listed.
        Raises:
            FileNotFoundError: it is gone.
            IndexCorrupt, IndexNewer: see `decode_commit`.
        """
        name = commits.commit_name(number)
        if n_bytes > commits.MOST_COMMIT_BYTES:
            most = f"at most {commits.MOST_COMMIT_BYTES} bytes"
            raise IndexCorrupt(self.place_of(name), "size", most, f"{n_bytes} bytes", commits.FIX)
        return commits.decode_commit(self.read(name, 0, n_bytes), number, self.place_of(name))

    def newest(self) -> Published | None:
        """The newest commit; None where nothing was published."""
        while there := self.commit_numbers():
            number = max(there)
            try:
                return self.commit(number, there[number].bytes)
            except FileNotFoundError as error:  # a newer one has taken its place
                if self.newest_number() == number:
                    place = self.place_of(commits.commit_name(number))
                    raise IndexCorrupt(place, "existence", "an object", "nothing", commits.FIX) from error
        return None

    def add(self, commit: Commit) -> bool:
        """Make a commit the newest one; whether it is now.

        Its number is free again where others have committed and removed since we looked. Then there is a
        newer one for certain, as the newest is never removed, and ours goes.
        """
        name = commits.commit_name(commit.number)
        if not self.create(name, commits.encode_commit(commit)):
            return False
        if self.newest_number() == commit.number:
            return True
        self.remove(name)
        return False

    def _there(self, name: str, n_bytes: int) -> bytes | None:
        """The beginning of an object; None where there is none, or where that cannot be told."""
        try:
            return self._driver.read(name, 0, n_bytes)
        except Exception:  # noqa: BLE001 - the first error is the one to tell
            return None

    def _patient(self, name: str, work: Callable[[], T], puts: bool = False) -> T:
        """Do it, again and again where that may help.

        Args:
            puts: so that nothing can be missing there but the place.
        """
        import tenacity

        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._driver.tries),
            wait=tenacity.wait_random_exponential(multiplier=self._pause, max=10),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            return tries(work)
        except LateboltError:
            raise
        except FileNotFoundError as error:
            if not puts:
                raise
            raise ObjectStoreError(self._message(name, error)) from error
        except Exception as error:  # libraries of stores have errors of their own, of no common kind
            raise ObjectStoreError(self._message(name, error)) from error

    def _message(self, name: str, error: Exception) -> str:
        said = masked(" ".join(str(error).split())) or type(error).__name__
        place, number = self.place_of(name), getattr(error, "errno", None)
        if isinstance(error, PermissionError) or type(error).__name__ in _NO_KEYS:
            return f"{place}: the store does not let us ({said}). Look at the keys and their rights."
        if number in _FULL:
            return f"{place}: the store is full ({said}). Free space, and do it again; what is there stays."
        if isinstance(error, FileNotFoundError):
            return f"{place}: there is no such place ({said}). Make the bucket or folder first."
        if not _is_transient(error):
            return f"{place}: the store refuses it ({said})."
        times = self._driver.tries
        return f"{place}: the store cannot be reached, or fails, {times} times ({said}). Try again later."


def _is_transient(error: BaseException) -> bool:
    if not isinstance(error, Exception) or isinstance(error, LateboltError):
        return False
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError):
        return False
    if isinstance(error, TypeError | AttributeError | NameError):  # a fault of ours or of a library
        return False
    number: Any = getattr(error, "errno", None)
    return number not in _FINAL | _FULL and type(error).__name__ not in _NO_KEYS
