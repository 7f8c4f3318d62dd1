"""Gives memory back to the system between the steps of an export."""

from __future__ import annotations

import ctypes
import gc
import sys

# mallopt's parameter for the size from which a block is a mapping of its own, and a size below large weights.
_MMAP_THRESHOLD, _OWN_MAPPING = -3, 1 << 18


def settle() -> None:
    """Let every large block be a mapping of its own, given back as soon as it is freed.

    glibc raises the bound to what was freed last, up to 32 MB, and then keeps such blocks in its heap.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _OWN_MAPPING)


def give_back() -> None:
    """Collect garbage and let go of what is free: glibc keeps freed blocks of many megabytes otherwise."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
