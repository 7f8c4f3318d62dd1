"""Gives memory back to the system between the steps of an export."""

from __future__ import annotations

import gc

from latebolt import system

# The size of a weight 1024 square. Below it are the activations of most texts, which come and go by the
# thousand: asking the system for each was a third of an export.
_OWN_MAPPING = 1 << 22


def settle() -> None:
    """Let every large block be a mapping of its own, given back as soon as it is freed."""
    system.own_mapping(_OWN_MAPPING)


def give_back() -> None:
    """Collect garbage and let go of what is free."""
    gc.collect()
    system.give_back_memory()
