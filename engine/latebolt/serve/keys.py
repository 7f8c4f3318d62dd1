"""Bearer keys: who may read (rank, search, look) and who may also write (change indexes).

Keys come from a file, read again when it changes, and from a setting. Only their digests are kept, and every
one of them is compared, in constant time. A line is one key, whatever characters it is made of.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path
from typing import Final, Literal

from latebolt.errors import InvalidInput
from latebolt.serve import log

Right = Literal["read", "write"]

# A key, and the right as a word of its own behind it.
_LINE: Final = re.compile(r"(?P<key>.*?)(?:[ \t]+(?P<right>read|write))?")
# What every client sends in a header as it is, and every proxy hands on.
_SENDABLE: Final = re.compile(r"[ -~]+")


def parse(text: str, where: str) -> dict[bytes, Right]:
    """Digest -> right, of lines `KEY`, `KEY read` or `KEY write`; KEY alone may write.

    A line that begins with # is a comment, an empty one nothing; white space around a line does not count.

    Raises:
        InvalidInput: a line holds no key, one that no header can carry, or one that has another right in
            another line; names its number, never the key.
    """
    found: dict[bytes, Right] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        place = f"{where}, line {number}"
        if line in ("read", "write"):
            raise InvalidInput(f'{place}: has "{line}" and no key before it.')
        parts = _LINE.fullmatch(line)
        if parts is None or not _SENDABLE.fullmatch(parts["key"]):
            raise InvalidInput(
                f"{place}: a key is sent in a header, so it should be of ASCII letters, digits, punctuation "
                "and spaces. Make another one."
            )
        digest, right = _digest(parts["key"]), _right(parts["right"])
        if found.get(digest, right) != right:
            raise InvalidInput(f"{place}: gives a key of a line before another right. Leave one of them out.")
        found[digest] = right
    return found


def _right(word: str | None) -> Right:
    return "read" if word == "read" else "write"


def given(authorization: str) -> str:
    """The key in the header of that name; empty where there is none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


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
        key = given(authorization)
        if not key:
            return None
        digest, right = _digest(key), None
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
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

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
