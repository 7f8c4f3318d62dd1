"""Gives memory back to the system between the steps of an export."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from latebolt import system

# The size of a weight 1024 square. Below it are the activations of most texts, which come and go by the
# thousand: asking the system for each was a third of an export.
_OWN_MAPPING = 1 << 22
# Whether this process sets objects aside for purposes of its own, which are not ours to bring back.
_theirs = False


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Every large block is a mapping of its own, given back as soon as it is freed.

    What there is by now, torch's hundreds of thousands of objects with it, is no garbage in this block: every
    `give_back` would walk through it.
    """
    global _theirs
    system.own_mapping(_OWN_MAPPING)
    # Counted through all of them, so not again where somebody sets objects aside.
    _theirs = _theirs or gc.get_freeze_count() > 0
    ours = not _theirs
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def give_back() -> None:
    """Collect garbage and let go of what is free."""
    gc.collect()
    system.give_back_memory()
