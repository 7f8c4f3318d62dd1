"""Makes the whole's answer of the shards' answers. Pure.

A shard's hits are its k best, ties by id, so the k best of all shards together are those of the whole. In
mode "hybrid" candidates are cut to the best of the whole in each ranking; what a shard gave before that was
known may hide others of its own behind some that the cut removes, and then it has to be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from latebolt.arrays import Float32
from latebolt.hits import Hit
from latebolt.index.search.query import Cut, Rankings
from latebolt.sharding.protocol import Answer

NO_CUT: Final = Cut(-math.inf, -math.inf)


class Merged(NamedTuple):
    """A hit of the whole, the part of its score that is late interaction, and its vectors if asked for."""

    hit: Hit
    maxsim: float | None
    vectors: Float32 | None
    shard: int


class Merging(NamedTuple):
    """Hits of the whole, best first, and shards whose further hits may belong among them."""

    best: list[Merged]
    unsure: list[int]


def cut_of(answers: Iterable[Answer], depth: int) -> Cut:
    """The cut that leaves the best candidates of the whole."""
    late: list[float] = []
    words: list[float] = []
    for each in answers:
        if each.rankings is None:
            return NO_CUT
        late += each.rankings.late
        words += each.rankings.words
    return Rankings(late, words).cut(depth)


def merge(answers: Mapping[int, Answer], k: int, cut: Cut = NO_CUT) -> Merging:
    """The k best of all, best first, ties by id.

    Args:
        answers: to one query, by the number of the shard.
        cut: in mode "hybrid", which candidates stay.
    """
    found: list[Merged] = []
    for number, each in answers.items():
        for place, hit in enumerate(each.hits):
            if not each.ranks or cut.keeps(each.ranks[place]):
                vectors = each.vectors[place] if each.vectors else None
                found.append(Merged(hit, each.maxsim[place], vectors, number))
    best = sorted(found, key=lambda each: (-each.hit.score, each.hit.id))[:k]
    last = (-best[-1].hit.score, best[-1].hit.id) if len(best) == k else (math.inf, "")
    unsure = [
        number
        for number, each in answers.items()
        if len(each.hits) == k
        and any(not cut.keeps(ranks) for ranks in each.ranks)
        and (-each.hits[-1].score, each.hits[-1].id) < last
    ]
    return Merging(best, unsure)
