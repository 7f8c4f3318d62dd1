"""What a place for objects can do, on a disk and in what fsspec knows: list, read, put, create, remove.

A driver makes one try and raises what the system or the library raises; `object_store` is what has patience
and words for errors. Names are ours (`commits`), never a user's.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from latebolt import system
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.index.places import masked

TRIES: Final = 5
PART_BYTES: Final = 8 << 20  # of one upload of several parts
_MOST_PARTS: Final = 9_000  # of 10,000 that S3 takes
_PARTS_AT_ONCE: Final = 4
# Whose exclusive creation is the store's own; of any other fsspec looks first and writes then.
_EXCLUSIVE: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_memory_lock = threading.Lock()


class Listed(NamedTuple):
    """An object in a folder: its name there, its size, and when it was written by the store's clock, in
    seconds since 1970; None where the store does not tell."""

    name: str
    bytes: int
    modified: float | None


class Driver(Protocol):
    """One try of each.

    Attributes:
        exclusive: whether `create` is known to fail for all but one of several at once.
        tries: how often a request that fails is made; fewer where the library tries again by itself.
    """

    exclusive: bool
    tries: int

    def listed(self, folder: str) -> list[Listed]:
        """The objects in a folder, not in those below; none where there is no such folder."""

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, fewer at its end; FileNotFoundError where it is not."""

    def upload(self, source: Path, name: str) -> None:
        """Put a file there."""

    def write(self, name: str, content: bytes) -> None:
        """Put bytes there, over what is there."""

    def create(self, name: str, content: bytes) -> None:
        """Put bytes there; FileExistsError where something is."""

    def remove(self, name: str) -> None:
        """Away with it; FileNotFoundError where it is not."""


class Disk:
    """A folder of this machine, or one that is mounted: files appear whole, and synced."""

    def __init__(self, root: Path) -> None:
        self._root, self.exclusive, self.tries = root, True, TRIES

    def listed(self, folder: str) -> list[Listed]:
        """See `Driver`."""
        found = []
        try:
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # removed just now
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_file(follow_symlinks=False):
                            found.append(Listed(entry.name, status.st_size, status.st_mtime))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return found

    def read(self, name: str, start: int, stop: int) -> bytes:
        """See `Driver`."""
        with os.fdopen(os.open(self._root / name, system.READ_FLAGS), "rb", buffering=0) as file:
            file.seek(start)
            pieces, left = [], stop - start
            while left > 0 and (piece := file.read(left)):
                pieces.append(piece)
                left -= len(piece)
            return b"".join(pieces)

    def upload(self, source: Path, name: str) -> None:
        """See `Driver`."""
        with source.open("rb") as old, self._draft(name) as draft:
            with draft.open("xb") as new:
                while block := old.read(1 << 20):
                    new.write(block)
                new.flush()
                os.fsync(new.fileno())
            system.replace(draft, self._root / name)

    def write(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        with self._draft(name) as draft:
            _write(draft, content)
            system.replace(draft, self._root / name)

    def create(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        target = self._root / name
        with self._draft(name) as draft:
            _write(draft, content)
            try:
                os.link(draft, target)  # whole at once, and for one alone
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.exclusive = False
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
                system.replace(draft, target)

    def remove(self, name: str) -> None:
        """See `Driver`."""
        (self._root / name).unlink()

    @contextlib.contextmanager
    def _draft(self, name: str) -> Iterator[Path]:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.draft")
        try:
            yield draft
            system.sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class Fsspec:
    """What fsspec opens. Threads may share it, and a forked process finds a filesystem of its own."""

    def __init__(self, uri: str) -> None:
        self._uri, self._protocol = uri, uri.split("://")[0].lower()
        self._folders: set[str] = set()
        self.exclusive = self._protocol in _EXCLUSIVE
        self.tries = 2 if self.exclusive else TRIES
        self._opened()

    def listed(self, folder: str) -> list[Listed]:
        """See `Driver`."""
        filesystem, path = self._at(folder)
        filesystem.invalidate_cache(path)
        try:
            found = filesystem.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            Listed(str(each["name"]).rsplit("/", 1)[-1], int(each["size"] or 0), _modified(each))
            for each in found
            if each["type"] == "file"
        ]

    def read(self, name: str, start: int, stop: int) -> bytes:
        """See `Driver`."""
        if stop <= start:
            return b""
        filesystem, path = self._at(name)
        try:
            return bytes(filesystem.cat_file(path, start=start, end=stop))
        except OSError as error:
            if error.errno == errno.EINVAL:  # a range behind the end
                return b""
            raise

    def upload(self, source: Path, name: str) -> None:
        """See `Driver`."""
        filesystem, path = self._at(name, make=True)
        parts = -(-source.stat().st_size // _MOST_PARTS)
        wanted = {
            "chunksize": max(PART_BYTES, -(-parts // (1 << 20)) << 20),
            "max_concurrency": _PARTS_AT_ONCE,
        }
        put = getattr(filesystem, "_put_file", None) or filesystem.put_file
        known = inspect.signature(put).parameters
        filesystem.put_file(str(source), path, **{k: v for k, v in wanted.items() if k in known})

    def write(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        filesystem, path = self._at(name, make=True)
        filesystem.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        filesystem, path = self._at(name, make=True)
        with _memory_lock if self._protocol == "memory" else contextlib.nullcontext():
            filesystem.pipe_file(path, content, mode="create")

    def remove(self, name: str) -> None:
        """See `Driver`."""
        filesystem, path = self._at(name)
        filesystem.rm_file(path)

    def _opened(self) -> tuple[Any, str]:
        """The filesystem, of which fsspec keeps one a process, and the path in it."""
        try:
            import fsspec
            import tenacity  # noqa: F401 - beside it in the extra

            return fsspec.url_to_fs(self._uri, use_listings_cache=False)  # type: ignore[no-any-return]
        except ImportError as error:
            extra = _EXTRAS.get(self._protocol, "objects")
            raise RuntimeUnavailable(
                f"{masked(self._uri)}: what opens such places is not installed. Run "
                f"\"pip install 'latebolt[{extra}]'\""
                + (", and the library that fsspec names: " if extra == "objects" else ". ")
                + str(error).rstrip(".")
                + "."
            ) from error
        except ValueError as error:
            raise InvalidInput(f"{masked(self._uri)}: {masked(str(error))}.") from None

    def _at(self, name: str, make: bool = False) -> tuple[Any, str]:
        filesystem, root = self._opened()
        path = f"{root.rstrip('/')}/{name}"
        folder = path.rsplit("/", 1)[0]
        # Where folders are something of their own; an object store has names with slashes.
        if make and self._protocol not in _EXCLUSIVE and folder not in self._folders:
            filesystem.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        return filesystem, path


def _modified(info: dict[str, Any]) -> float | None:
    """When an object was written, by whatever name its store has for that."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(name)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def driver_of(uri: str) -> Driver:
    """The driver of a URI.

    Raises:
        InvalidInput: it is none that names a place, or it holds credentials of a cloud.
        RuntimeUnavailable: what opens it is not installed.
    """
    shown = masked(uri)
    protocol, _, rest = uri.partition("://")
    if "::" in uri:
        raise InvalidInput(f"{shown}: is a chain of URIs. Give that of the store itself.")
    if protocol.lower() == "file":
        split = urlsplit(uri)
        path = Path(url2pathname(split.path))
        if split.netloc not in ("", "localhost") or not path.is_absolute() or path == Path(path.anchor):
            raise InvalidInput(f"{shown}: should be like file:///folder/name, with three slashes.")
        return Disk(path)
    if "?" in rest or "#" in rest:
        raise InvalidInput(f"{shown}: should have no ? and no # in it.")
    host = rest.split("/")[0]
    if not host or any(part in ("", ".", "..") for part in rest.rstrip("/").split("/")):
        raise InvalidInput(f"{shown}: should be like {protocol}://bucket/name.")
    if ":" in host.rpartition("@")[0] and protocol.lower() in _EXCLUSIVE:
        raise InvalidInput(
            f"{shown}: keys do not belong in a URI. Give them as the cloud's own tools take them, by "
            "variables such as AWS_ACCESS_KEY_ID or a file of their own."
        )
    return Fsspec(uri)
