"""Answers of shards are joined as if one index had ranked all documents, however these are spread. Pure."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.hits import Hit
from latebolt.index.search.query import Cut, Rankings, Ranks
from latebolt.sharding.merging import cut_of, merge
from latebolt.sharding.protocol import Answer


class Scored(NamedTuple):
    """A document: its shard, and its scores by late interaction, by words (0: none) and by both."""

    id: str
    shard: int
    late: float
    words: float
    fused: float


def best(documents: list[Scored], depth: int, cut: Cut | None = None) -> tuple[list[Scored], Rankings]:
    """Candidates in order of both scores, and the rankings that they were cut by: the definition."""
    late = sorted((each.late for each in documents), reverse=True)
    words = sorted((each.words for each in documents if each.words), reverse=True)
    own = Rankings(late, words).cut(depth)
    rankings = Rankings(late, words).above(own)
    cut = cut or own
    kept = [d for d in documents if d.late >= cut.late or (d.words and d.words >= cut.words)]
    return sorted(kept, key=lambda each: (-each.fused, each.id)), rankings


def answer(documents: list[Scored], k: int, depth: int, cut: Cut | None = None) -> Answer:
    """What a shard says."""
    found, rankings = best(documents, depth, cut)
    hits = [Hit(each.id, each.fused) for each in found[:k]]
    ranks = [
        Ranks(
            each.late if each.late in rankings.late else None,
            each.words if each.words in rankings.words else None,
        )
        for each in found[:k]
    ]
    return Answer(hits, [None] * len(hits), ranks, rankings)


SCORES = st.integers(0, 6).map(float)
DOCUMENTS = st.lists(st.tuples(st.integers(0, 3), SCORES, SCORES, SCORES), max_size=30).map(
    lambda rows: [Scored(f"{i:02}", *row) for i, row in enumerate(rows)]
)


@settings(max_examples=400)
@given(DOCUMENTS, st.integers(1, 6), st.integers(1, 5))
def test_the_best_are_those_of_one_index(documents: list[Scored], k: int, depth: int):
    want = [each.id for each in best(documents, depth)[0][:k]]
    parts = [[each for each in documents if each.shard == shard] for shard in range(4)]
    answers = {shard: answer(part, k, depth) for shard, part in enumerate(parts)}
    cut = cut_of(answers.values(), depth)
    merged = merge(answers, k, cut)
    for shard in merged.unsure:
        answers[shard] = answer(parts[shard], k, depth, cut)
    merged = merge(answers, k, cut)
    assert [each.hit.id for each in merged.best] == want and merged.unsure == []


def test_a_hit_behind_one_that_is_cut_away_is_asked_for():
    """c is the best of its shard by both scores, and no candidate of the whole; it hides d, which is."""
    documents = [
        Scored("b", 0, late=1, words=9, fused=2),
        Scored("c", 1, late=1, words=5, fused=8),
        Scored("d", 1, late=9, words=0, fused=5),
    ]
    answers = {shard: answer([d for d in documents if d.shard == shard], 1, 1) for shard in (0, 1)}
    assert answers[1].hits[0].id == "c"
    cut = cut_of(answers.values(), 1)
    assert merge(answers, 1, cut).unsure == [1]
    answers[1] = answer(documents[1:], 1, 1, cut)
    merged = merge(answers, 1, cut)
    assert [each.hit.id for each in merged.best] == ["d"] and merged.unsure == []
