"""Gives memory back to the system between the steps of an export."""

from __future__ import annotations

import gc

from latebolt import system

_OWN_MAPPING = 1 << 18  # a size below large weights


def settle() -> None:
    """Let every large block be a mapping of its own, given back as soon as it is freed."""
    system.own_mapping(_OWN_MAPPING)


def give_back() -> None:
    """Collect garbage and let go of what is free."""
    gc.collect()
    system.give_back_memory()
