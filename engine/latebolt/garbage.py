"""Python's search for garbage, put off while much is made that is needed to the end.

It walks through all objects again and again as their number grows, to find nothing.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def none_collected() -> Iterator[None]:
    """No search in this block; none after it where there was none before."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
