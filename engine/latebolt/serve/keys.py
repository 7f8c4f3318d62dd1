"""Bearer keys: who may read (rank, search, look) and who may also write (change indexes).

Keys come from a file, read again when it changes, and from a setting. Only their digests are kept, and every
one of them is compared, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path
from typing import Final, Literal

from latebolt.errors import InvalidInput
from latebolt.serve import log

Right = Literal["read", "write"]

_RIGHTS: Final[tuple[Right, ...]] = ("read", "write")


def parse(text: str, where: str) -> dict[bytes, Right]:
    """Digest -> right, of lines (or parts between commas) `KEY`, `KEY read` or `KEY write`; # for comments.

    Raises:
        InvalidInput: a line has something else behind the key; names its number, never the key.
    """
    found: dict[bytes, Right] = {}
    for number, line in enumerate(text.replace(",", "\n").splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        right = "write" if len(words) == 1 else next((r for r in _RIGHTS if words[1:] == [r]), None)
        if right is None:
            raise InvalidInput(f'{where}, line {number}: should be a key, and "read" or "write" after it.')
        found[_digest(words[0])] = right
    return found


class Keys:
    """The keys in force.

    Args:
        text: keys of the setting.
        file: their file, or None.
    Raises:
        InvalidInput: the file cannot be read or holds no key, or a line does not fit.
    """

    def __init__(self, text: str, file: Path | None) -> None:
        self._fixed, self._file = parse(text, "keys"), file
        self._stamp: object = None
        self._read: dict[bytes, Right] = {}
        if file is not None:
            self._stamp = self._stamp_of(file)
            self._read = self._load(file)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._fixed) or self._file is not None

    def right_of(self, authorization: str) -> Right | None:
        """The right of a request with that header; None for no key or a wrong one."""
        self._refresh()
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest, right = _digest(key.strip()), None
        for known, its_right in [*self._fixed.items(), *self._read.items()]:
            if hmac.compare_digest(digest, known):
                right = its_right
        return right

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            stamp = self._stamp_of(self._file)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._read = self._load(self._file)
            log.event("keys read again", keys=len(self._read))
        except InvalidInput as error:  # the keys that were in force stay so until the file is whole
            log.event("keys not read", logging.ERROR, reason=type(error).__name__)

    @staticmethod
    def _stamp_of(file: Path) -> object:
        try:
            status = file.stat()
        except OSError as error:
            raise InvalidInput(f"{file}: the file of keys cannot be read ({error.strerror}).") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    @staticmethod
    def _load(file: Path) -> dict[bytes, Right]:
        try:
            found = parse(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file}: the file of keys cannot be read ({error}).") from error
        if not found:
            raise InvalidInput(f"{file}: holds no key. Put one in it, or leave out --keys-file.")
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
