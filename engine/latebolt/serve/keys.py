"""Bearer keys: who may read (rank, search, look) and who may also write (change indexes).

Keys come from a file, read again when it changes, and from a setting. Only their digests are kept, and every
one of them is compared, in constant time. A line is one key, whatever characters it is made of. What logs say
of a key is its label, which stands in a comment before it, or the number of its line.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

from latebolt.errors import InputNotFound, InvalidInput
from latebolt.serve import log

Right = Literal["read", "write"]
# 95 bits of a key drawn from letters and digits: no number of requests finds it.
LEAST_CHARACTERS: Final = 16

# A key, and the right as a word of its own behind it.
_LINE: Final = re.compile(r"(?P<key>.*?)(?:[ \t]+(?P<right>read|write))?")
# What every client sends in a header as it is, and every proxy hands on.
_SENDABLE: Final = re.compile(r"[ -~]+")
_LABEL: Final = re.compile(r"#\s*label:\s*(?P<label>[!-~](?:[ -~]{0,62}[!-~])?)\s*")


class Holder(NamedTuple):
    """Whose key it is, for logs, and what it may."""

    label: str
    right: Right


class KeysUnfit(InvalidInput):
    """Keys that cannot come into force.

    Args:
        place: the file or setting.
        why: a sentence, which holds no key.
        line: the number of the line that it is about; 0 for the whole.
    """

    def __init__(self, place: str, why: str, line: int = 0) -> None:
        super().__init__(f"{place}, line {line}: {why}" if line else f"{place}: {why}")
        self.why, self.line = why, line


def parse(text: str, where: str, unlabelled: str = "line") -> dict[bytes, Holder]:
    """Digest -> holder, of lines `KEY`, `KEY read` or `KEY write`; KEY alone may write.

    A line that begins with # is a comment, an empty one nothing; white space around a line does not count.
    The comment `# label: NAME`, with up to 64 printable ASCII characters, labels the next key; one that gives
    away a part of it does not count.

    Args:
        where: the file or setting, for errors.
        unlabelled: what the label of a key without one says before the number of its line.
    Raises:
        KeysUnfit: a line holds no key, a short one, one that no header can carry, or one that has another
            right in another line; names its number, never the key.
    """
    found: dict[bytes, Holder] = {}
    label = ""
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            said = _LABEL.fullmatch(line)
            label = said["label"] if said else label
            continue
        key, right = _parts(line, where, number)
        if not label or label in key or key in label:
            label = f"{unlabelled} {number}"
        holder, label = Holder(label, right), ""
        known = found.setdefault(_digest(key), holder)
        if known.right != right:
            raise KeysUnfit(
                where, "gives a key of a line before another right. Leave one of them out.", number
            )
    return found


def _parts(line: str, where: str, number: int) -> tuple[str, Right]:
    if line in ("read", "write"):
        raise KeysUnfit(where, f'has "{line}" and no key before it.', number)
    parts = _LINE.fullmatch(line)
    if parts is None or not _SENDABLE.fullmatch(parts["key"]):
        raise KeysUnfit(
            where,
            "a key is sent in a header, so it should be of ASCII letters, digits, punctuation and spaces. "
            "Make another one.",
            number,
        )
    if len(parts["key"]) < LEAST_CHARACTERS:
        raise KeysUnfit(
            where,
            f"the key has fewer than {LEAST_CHARACTERS} characters, which earlier versions took, and may be "
            'guessed. Make another one with "openssl rand -base64 32".',
            number,
        )
    return parts["key"], "read" if parts["right"] == "read" else "write"


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
        InputNotFound: there is no such file.
        KeysUnfit: it cannot be read or holds no key, or a line does not fit.
    """

    def __init__(self, text: str, file: Path | None) -> None:
        self._fixed, self._file = parse(text, "keys", "setting, line"), file
        self._stamp: object = None
        self._read: dict[bytes, Holder] = {}
        if file is not None:
            if not file.exists():
                raise InputNotFound(f"{file}: the file of keys cannot be read, for it is not there.")
            self._stamp = self._stamp_of(file)
            self._read = self._load(file)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._fixed) or self._file is not None

    def holder_of(self, authorization: str) -> Holder | None:
        """Whose key a request with that header has; None for no key or a wrong one."""
        self._refresh()
        key = given(authorization)
        if not key:
            return None
        digest, holder = _digest(key), None
        for known, its_holder in [*self._fixed.items(), *self._read.items()]:
            if hmac.compare_digest(digest, known):
                holder = its_holder
        return holder

    def reload(self) -> None:
        """Read the file now, whether it has changed or not, and say in the log how that went."""
        if self._file is None:
            log.event("keys not read", logging.WARNING, reason="there is no file of keys.")
            return
        self._stamp = None
        self._refresh()

    def _refresh(self) -> None:
        if self._file is None:
            return
        stamp = self._stamp_of(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._read = self._load(self._file)
            log.event("keys read again", keys=len(self._read))
        except KeysUnfit as error:  # the keys that were in force stay so until the file is whole
            place = {"line": error.line} if error.line else {}
            log.event("keys not read", logging.ERROR, reason=error.why, **place)

    @staticmethod
    def _stamp_of(file: Path) -> object:
        """What changes when the file does; why it cannot be looked at, where it cannot."""
        try:
            status = file.stat()
        except OSError as error:
            return error.strerror
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    @staticmethod
    def _load(file: Path) -> dict[bytes, Holder]:
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise KeysUnfit(str(file), f"the file of keys cannot be read ({error.strerror}).") from error
        except UnicodeDecodeError as error:
            raise KeysUnfit(str(file), "the file of keys is not UTF-8.") from error
        found = parse(text, str(file))
        if not found:
            raise KeysUnfit(str(file), "holds no key. Put one in it, or leave out --keys-file.")
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
