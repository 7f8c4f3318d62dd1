"""Bodies that were sent packed: gzip and deflate, unpacked as they arrive, a bounded piece at a time.

The caller counts what comes out, so that a few kilobytes that unpack to gigabytes are given up at the limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from latebolt.serve.problems import Problem

_PIECE: Final = 1 << 18  # bytes that come out at a time; about a millisecond
_MOST_MEMBERS: Final = 256  # of a gzip file; each costs time, and may hold nothing
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's `wbits`


class Unpacker:
    """Bytes of one body, as they were before they were packed.

    Args:
        encoding: the value of Content-Encoding; empty for none.
    Raises:
        Problem: 415, for one that is not known.
    """

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        self._window = None if name in ("", "identity") else _WINDOWS.get(name)
        if self._window is None and name not in ("", "identity"):
            raise Problem(
                415,
                "Content-Encoding should be gzip, deflate or left out.",
                headers={"Accept-Encoding": ", ".join(name for name in _WINDOWS if "-" not in name)},
            )
        self._member = None if self._window is None else zlib.decompressobj(self._window)
        self._members = 1
        self._is_begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What comes out of the next bytes.

        Raises:
            Problem: 400, they are not what Content-Encoding says.
        """
        if self._member is None:
            yield data
            return
        self._is_begun = self._is_begun or bool(data)
        try:
            while data:
                if self._member.eof:
                    self._members += 1
                    if self._window == _WINDOWS["deflate"] or self._members > _MOST_MEMBERS:
                        raise _broken()
                    self._member = zlib.decompressobj(self._window or 0)
                yield self._member.decompress(data, _PIECE)
                data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            while not self._member.eof and (rest := self._member.decompress(b"", _PIECE)):
                yield rest
        except zlib.error as error:
            raise _broken() from error

    def finish(self) -> None:
        """Say that no more comes.

        Raises:
            Problem: 400, the end is missing.
        """
        if self._member is not None and self._is_begun and not self._member.eof:
            raise _broken()


def _broken() -> Problem:
    return Problem(400, "the body is not packed as Content-Encoding says, or ends too early.", "bad_encoding")
