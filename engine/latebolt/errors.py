"""The exception tree: every error latebolt raises on purpose, so that callers can tell them apart.

LateboltError
├── InvalidInput      (ValueError)         the caller passed a wrong value
│   ├── InputNotFound (FileNotFoundError)  a file or folder that was named is not there
│   └── UnknownSetting (TypeError)         a keyword that nothing here has
├── ModelError                             a model folder is missing, damaged or does not fit
│   └── ExportError                        a checkpoint cannot be turned into a model folder
├── RuntimeUnavailable (ImportError)       a needed library or execution provider is not installed
├── IndexUnusable                          an index folder cannot be used
│   ├── IndexNotFound (FileNotFoundError)  there is no index at that path
│   ├── IndexExists   (FileExistsError)    there is one already
│   ├── IndexCorrupt                       a file contradicts the manifest
│   ├── IndexNewer                         a newer version of latebolt wrote it
│   ├── IndexInaccessible                  the system refuses to read or write a file of it
│   ├── IndexLocked                        another process is writing
│   ├── IndexReadOnly                      it is a copy of what is published elsewhere
│   └── ModelMismatch (ValueError)         the index was made with another model
├── ShardUnavailable                       a shard of a set gave no answer
├── ObjectStoreError                       an object store refused, or cannot be reached
│   └── PublishConflict                    somebody else has published there
├── StorageFull       (OSError)            the disk is full; the last commit is intact
├── OutOfMemory       (MemoryError)        there is not, or would not be, enough memory
└── ServerError                            a server that was asked refused, or gave no answer
    ├── RequestInvalid (InvalidInput)      it says that the request does not fit
    └── ServerUnreachable                  it cannot be reached, or took too long

A message names the thing, the place, what was expected and found, and the way out, on one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

# What ends a line for Python, and so for whoever reads a log line by line.
_LINE_ENDS: Final = {
    ord(c): c.encode("unicode_escape").decode() for c in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
}


class LateboltError(Exception):
    """Root of every error raised on purpose.

    What it says may quote a file or a caller, whose line ends are written out: it stays one line.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(each.translate(_LINE_ENDS) if isinstance(each, str) else each for each in args))


class InvalidInput(LateboltError, ValueError):
    """The caller passed a wrong value."""


class InputNotFound(InvalidInput, FileNotFoundError):
    """A file or folder that the caller named is not there."""

    # FileNotFoundError formats (errno, text) pairs; a plain message is what we want to show.
    def __str__(self) -> str:
        return str(self.args[0])


class UnknownSetting(InvalidInput, TypeError):
    """The caller gave a setting that there is not; Python's own word for it is TypeError."""


class ModelError(LateboltError):
    """A model folder is missing, damaged or does not fit what was asked of it."""


class ExportError(ModelError):
    """A checkpoint cannot be turned into a model folder."""


class RuntimeUnavailable(LateboltError, ImportError):
    """A needed library or execution provider is not installed."""


class IndexUnusable(LateboltError):
    """An index folder cannot be used."""


class IndexNotFound(IndexUnusable, FileNotFoundError):
    """There is no index at that path."""

    def __str__(self) -> str:
        return str(self.args[0])


class IndexExists(IndexUnusable, FileExistsError):
    """There is an index, or something else, at that path already."""

    def __str__(self) -> str:
        return str(self.args[0])


class IndexCorrupt(IndexUnusable):
    """A file of the index contradicts its manifest."""

    def __init__(self, path: object, field: str, expected: object, got: object, fix: str) -> None:
        super().__init__(f"{path}: {field} should be {expected}, got {got}. {fix}")
        self.path, self.field = path, field
        self._given = path, field, expected, got, fix

    def __reduce__(self) -> tuple[type[IndexCorrupt], tuple[object, ...]]:
        # An exception is pickled by its message, from which this one cannot be made; workers send them home.
        return type(self), self._given


class IndexNewer(IndexUnusable):
    """A newer version of latebolt wrote the index, in a format that this one does not know."""

    def __init__(self, path: object, field: str, known: object, got: object) -> None:
        super().__init__(
            f"{path}: {field} is {got}, and this version of latebolt reads {known}. Use the version that "
            f"wrote it, or newer; nothing is damaged."
        )
        self.path, self.field = path, field
        self._given = path, field, known, got

    def __reduce__(self) -> tuple[type[IndexNewer], tuple[object, ...]]:
        return type(self), self._given


class IndexInaccessible(IndexUnusable):
    """The system refuses to read or write a file of the index.

    Args:
        errno: what it says, see the module `errno`; None where it says nothing.
        writing: whether the file was to be written.
    """

    def __init__(self, message: str, errno: int | None, writing: bool) -> None:
        super().__init__(message)
        self.errno, self.writing = errno, writing

    def __reduce__(self) -> tuple[type[IndexInaccessible], tuple[object, ...]]:
        return type(self), (str(self), self.errno, self.writing)


class IndexLocked(IndexUnusable):
    """Another process is writing to the index."""


class IndexReadOnly(IndexUnusable):
    """The index is a copy of what is published in an object store, and changes only with that."""


class ModelMismatch(IndexUnusable, ValueError):
    """The index was made with another model."""


class ShardUnavailable(LateboltError):
    """Shards of a set gave no answer in time, or failed.

    Args:
        missing: number of each such shard -> why.
        committed: shards that have committed their part of a change; repeating the change is safe.
        ids: of an addition's documents, where they were given numbers: to repeat it with.
    """

    def __init__(
        self,
        message: str,
        missing: Mapping[int, str],
        committed: Sequence[int] = (),
        ids: Sequence[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.missing, self.committed, self.ids = dict(missing), tuple(committed), ids

    def __reduce__(self) -> tuple[type[ShardUnavailable], tuple[object, ...]]:
        return type(self), (str(self), self.missing, self.committed, self.ids)


class ObjectStoreError(LateboltError):
    """An object store refused what was asked of it, or cannot be reached."""


class PublishConflict(ObjectStoreError):
    """Somebody else has published there since, or something else; nothing of it was overwritten."""


class StorageFull(LateboltError, OSError):
    """The disk is full; the last commit is intact."""

    def __str__(self) -> str:
        return str(self.args[0])


class OutOfMemory(LateboltError, MemoryError):
    """There is not, or would not be, enough memory; what was there before is intact."""


class ServerError(LateboltError):
    """A server that was asked refused, or gave no answer that can be read.

    Args:
        status: of its answer; None where there was none.
        code: the server's word for it, such as "index_not_found"; "" where it has none.
        request_id: finds the request in the server's log.
        retry_after: seconds after which it says to ask again.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id, self.retry_after = status, code, request_id, retry_after

    def __reduce__(self) -> tuple[type[ServerError], tuple[object, ...]]:
        return type(self), (str(self), self.status, self.code, self.request_id, self.retry_after)


class RequestInvalid(ServerError, InvalidInput):
    """The server says that the request does not fit."""


class ServerUnreachable(ServerError):
    """The server cannot be reached, or took too long."""


def errno_of(error: BaseException | None) -> int | None:
    """The number that the system gave for an error or for what caused it, see the module `errno`; None where
    it had no part in it."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(number, int):
            return number
        error = error.__cause__
    return None
