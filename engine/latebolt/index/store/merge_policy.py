"""Decides which segments are worth merging, so that an index growing by small additions has few files.

Pure. Segments fall into tiers by size, each ten times the one below; ten of a tier become one of the next. A
token is so copied about once while the index grows tenfold, and n tokens stand in about 10 log10(n) segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from latebolt.index.format.layout import SegmentRecord

FAN_IN: Final = 10
SMALLEST_TIER: Final = 10_000  # tokens; a segment below costs its files, not its size
LARGEST_MERGE: Final = 100_000_000  # tokens; a merge that would write more waits for an explicit compaction


def plan_merges(segments: Iterable[SegmentRecord]) -> list[list[str]]:
    """Names of segments to merge, one list a merge, each in the order given.

    Only segments of one codec and the same columns are merged with each other. Apply and ask again: the
    result of a merge may complete the next tier.
    """
    groups: dict[object, list[SegmentRecord]] = {}
    for segment in segments:
        groups.setdefault((segment.codec, segment.columns, tier(segment.n_tokens)), []).append(segment)
    return [
        [segment.name for segment in group]
        for group in groups.values()
        if len(group) >= FAN_IN and sum(segment.n_tokens for segment in group) <= LARGEST_MERGE
    ]


def tier(n_tokens: int) -> int:
    """0 below SMALLEST_TIER, then one more for each factor of ten."""
    level = 0
    while n_tokens >= SMALLEST_TIER * FAN_IN**level:
        level += 1
    return level
