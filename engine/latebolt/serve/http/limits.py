"""Limits of what a request may hold, found out without building anything from it."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

# Matches at every quote, also of a string that never ends, so that no body makes it look twice.
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_OPEN, _CLOSE = b"[{", b"]}"
_OTHER: Final = bytes(set(range(256)) - set(_OPEN + _CLOSE))


def depth_of(body: bytes | bytearray, enough: int) -> int:
    """Levels of nesting of JSON, or a number of at most `enough` where it cannot be more."""
    opened = sum(body.count(bytes([c])) for c in _OPEN)
    if opened <= enough:  # brackets inside strings counted too: no more than this
        return opened
    brackets = np.frombuffer(_STRINGS.sub(b"", body).translate(None, _OTHER), np.uint8)
    if not len(brackets):
        return 0
    steps = np.where(np.isin(brackets, list(_OPEN)), 1, -1)
    return int(np.cumsum(steps).max())
