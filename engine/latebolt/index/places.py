"""Where an index may lie beside a folder: at a URI, which what is above this package opens.

`latebolt` registers here what opens one, so that `Index.open` takes URIs and nothing here knows object
stores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from latebolt.index.store.store import Store

# (URI, folder of the cache or None, seconds between two looks or None) -> its store
Opener = Callable[[str, "str | os.PathLike[str] | None", "float | None"], "Store"]

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")  # two letters at least: one is a drive of Windows
_SECRETS: Final = re.compile(r"(://)[^/\s]*:[^/\s]*@")
_QUERY: Final = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]+")
# (URI, name of an object below it, bytes at most) -> its bytes
Reader = Callable[[str, str, int], bytes]

_openers: list[Opener] = []
_readers: list[Reader] = []


def is_uri(place: object) -> bool:
    """Whether this is a URI, such as "s3://bucket/notes", and no folder's name."""
    return isinstance(place, str) and _URI.match(place) is not None


def masked(text: str) -> str:
    """A URI, or a text with URIs in it, without the passwords and signatures that URIs may hold."""
    return _SECRETS.sub(r"\g<1>***@", _QUERY.sub(r"\g<1>?***", text))


def register(opener: Opener, reader: Reader) -> None:
    """Have URIs opened and read by these from now on."""
    _openers[:], _readers[:] = [opener], [reader]


def read_at(uri: str, name: str, most: int) -> bytes:
    """A small object below a URI.

    Raises:
        FileNotFoundError: there is none.
        ObjectStoreError: the store cannot be reached.
    """
    return _readers[0](uri, name, most)


def open_uri(uri: str, cache: str | Path | None, refresh: float | None) -> Store:
    """The store of an index at a URI, see `Index.open`."""
    return _openers[0](uri, cache, refresh)
