"""When segments are merged."""

from __future__ import annotations

import random

from latebolt.index.format.layout import Column, SegmentRecord
from latebolt.index.store.merge_policy import FAN_IN, LARGEST_MERGE, plan_merges, tier


def segment(
    name: int, n_tokens: int, codec: str | None = None, columns: tuple[Column, ...] = ()
) -> SegmentRecord:
    return SegmentRecord(str(name), codec, 1, n_tokens, columns, {})


def test_tiers_are_factors_of_ten() -> None:
    assert [tier(n) for n in (0, 9_999, 10_000, 99_999, 100_000, 10**9)] == [0, 0, 1, 1, 2, 6]


def test_nine_stay_and_ten_are_merged() -> None:
    assert plan_merges(segment(i, 50) for i in range(1, FAN_IN)) == []
    assert plan_merges(segment(i, 50) for i in range(1, FAN_IN + 1)) == [
        [str(i) for i in range(1, FAN_IN + 1)]
    ]


def test_only_like_is_merged_with_like() -> None:
    other = (Column("x", "u1"),)
    mixed = [segment(i, 50, *kind) for i in range(1, 9) for kind in ((), ("1",), ("1", other))]
    assert plan_merges(mixed) == []
    assert plan_merges([segment(i, 10**4 if i % 2 else 50) for i in range(1, 19)]) == []


def test_huge_segments_are_left_to_compaction() -> None:
    assert plan_merges(segment(i, LARGEST_MERGE // FAN_IN + 1) for i in range(1, 20)) == []


def test_any_growth_stays_few_segments_and_is_copied_seldom() -> None:
    rng = random.Random(0)
    segments: list[SegmentRecord] = []
    copied = total = 0
    for i in range(1, 5000):
        size = rng.choice([1, 100, 3000, 30_000])
        segments.append(segment(i, size))
        total += size
        while plans := plan_merges(segments):
            for names in plans:
                merged = [s for s in segments if s.name in names]
                size = sum(s.n_tokens for s in merged)
                segments = [s for s in segments if s.name not in names]
                segments.append(segment(10**6 + i, size))
                copied += size
    assert len(segments) < 60
    assert copied < 6 * total
