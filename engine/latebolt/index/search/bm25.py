"""Scores the documents of several segments by their words: BM25 with the statistics of the whole index.

A word's rarity and the average length are those of all live documents together, so that a score depends
neither on how documents are spread over segments, nor on deleted ones, nor on the filter. Of documents that
were cut, passages are what is scored and counted. Memory is taken for the documents that hold a word of the
query, not for all of the index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from latebolt.arrays import Float64, Int64
from latebolt.errors import IndexUnusable
from latebolt.index.documents.old_words import old_words_of
from latebolt.index.documents.postings import Postings
from latebolt.index.documents.words import words_of
from latebolt.index.store.segment import Segment

K1, B = 1.2, 0.75
_BLOCK_ROWS: Final = 1 << 16  # documents whose scores are added up at a time


class SegmentWords(NamedTuple):
    """BM25 of the documents of a segment that hold a word of the query, deleted ones included.

    Args:
        rows: int64 [n], ascending.
        scores: float64 [n], above 0.
    """

    rows: Int64
    scores: Float64

    def among(self, rows: Int64) -> SegmentWords:
        """Of these rows, ascending, those that hold a word."""
        places = np.searchsorted(self.rows, rows)
        found = np.zeros(len(rows), np.bool_)
        inside = places < len(self.rows)
        found[inside] = self.rows[places[inside]] == rows[inside]
        return SegmentWords(rows[found], self.scores[places[found]])

    def of(self, rows: Int64) -> Float64:
        """Float64 [len(rows)], the scores of rows in any order; 0 for one without a word of the query."""
        scores = np.zeros(len(rows))
        if len(self.rows):
            places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            found = self.rows[places] == rows
            scores[found] = self.scores[places[found]]
        return scores


class WordScores(NamedTuple):
    """BM25 by segment, and what a perfect document would have: above 0 for a query that has a word."""

    by_segment: list[SegmentWords]
    ceiling: float


class WordCounts(NamedTuple):
    """What BM25 knows of an index, for the words of one query; those of its parts add up to the whole's.

    Args:
        texts, words: live texts with words, and how many these are.
        having: word -> live texts that hold it; the query's words by the rules of today and of version 2.
        current, old: whether a segment's texts were cut into words by the one, or the other, rule.
        without: a segment that was written without words; "" where each has them.
    """

    texts: int = 0
    words: int = 0
    having: Mapping[str, int] = MappingProxyType({})
    current: bool = False
    old: bool = False
    without: str = ""

    def plus(self, more: WordCounts) -> WordCounts:
        """Both together, of the same query."""
        return WordCounts(
            self.texts + more.texts,
            self.words + more.words,
            dict(Counter(self.having) + Counter(more.having)),
            self.current or more.current,
            self.old or more.old,
            self.without or more.without,
        )


class _Known(NamedTuple):
    """A word of the query: by segment, the documents that hold it; and how rare it is."""

    postings: list[Postings]
    rarity: float


class _Term(NamedTuple):
    """A word of the query with its weight and, by segment, the documents that hold it."""

    weight: float
    postings: list[Postings]


def count_words(segments: Sequence[Segment], query: str) -> WordCounts:
    """What `score_words` has to know of segments, where they are not all of an index."""
    without = next((str(segment.folder) for segment in segments if not segment.texts.has_words), "")
    segments = [segment for segment in segments if segment.texts.has_words]
    counts = [segment.counted_words() for segment in segments]
    having = {}
    for word in {*words_of(query), *old_words_of(query)}:
        having[word] = _having(segments, [segment.texts.postings(word) for segment in segments])
    return WordCounts(
        sum(texts for texts, _ in counts),
        sum(words for _, words in counts),
        having,
        any(segment.texts.words_are_current for segment in segments),
        not all(segment.texts.words_are_current for segment in segments),
        without,
    )


def check_words(without: str) -> None:
    """Raise IndexUnusable for a segment that was written by a version that kept no words; "" for none."""
    if without:
        raise IndexUnusable(
            f"{without}: was written without the words that BM25 needs. "
            'Compact the index to add them (Index.compact or "latebolt compact").'
        )


def score_words(segments: Sequence[Segment], query: str, whole: WordCounts | None = None) -> WordScores:
    """BM25 of a query; words that no document has, and syntax of any kind, add nothing to a document.

    A segment of version 2, whose texts were cut into words by the rule of then, is asked for the query's
    words by that rule. A word that both rules give is as rare as it is in the whole index.

    Args:
        whole: counts of the index that the segments are a part of; None where they are all of it.
    Raises:
        IndexUnusable: a segment was written by a version that kept no words.
    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with
        Lucene's ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
    """
    for segment in segments:
        if not segment.texts.has_words:
            check_words(str(segment.folder))
    wanted = {segment.texts.words_are_current for segment in segments}
    if whole is None:
        counts = [segment.counted_words() for segment in segments]
        n_documents, n_words = sum(documents for documents, _ in counts), sum(words for _, words in counts)
    else:
        n_documents, n_words = whole.texts, whole.words
        wanted |= {current for current, there in ((True, whole.current), (False, whole.old)) if there}
    mean = max(n_words / max(n_documents, 1), 1.0)
    rules = {True: words_of, False: old_words_of}
    counted = {current: Counter(rules[current](query)) for current in wanted or {True}}
    having = None if whole is None else whole.having
    known = _look_up(segments, n_documents, {word for each in counted.values() for word in each}, having)
    terms = {
        current: [
            _Term(times * (K1 + 1) * known[word].rarity, known[word].postings)
            for word, times in sorted(words.items())
        ]
        for current, words in counted.items()
    }
    by_segment = [
        _score(
            segment,
            [(term.weight, term.postings[i]) for term in terms[segment.texts.words_are_current]],
            mean,
        )
        for i, segment in enumerate(segments)
    ]
    return WordScores(by_segment, max(sum(term.weight for term in each) for each in terms.values()))


def word_weights(counts: WordCounts, query: str) -> dict[str, float]:
    """The words of a query that documents have, each with its share of what the rarest of them weighs.

    Segments of version 2 are asked by the rule of today.
    """
    rarities = {
        word: _rarity(counts.texts, having)
        for word in words_of(query)
        if (having := counts.having.get(word, 0))
    }
    most = max(rarities.values(), default=1.0)
    return {word: rarity / most for word, rarity in rarities.items()}


def word_shares(counts: WordCounts, query: str, least: int) -> dict[str, float]:
    """The words of a query, each with the share of live texts that hold it.

    None of them where segments keep no words, or where texts are fewer than `least`.
    """
    if counts.without or counts.texts < max(least, 1):
        return {}
    return {word: counts.having.get(word, 0) / counts.texts for word in words_of(query)}


def _look_up(
    segments: Sequence[Segment], n_documents: int, words: Iterable[str], having: Mapping[str, int] | None
) -> dict[str, _Known]:
    found = {}
    for word in words:
        postings = [segment.texts.postings(word) for segment in segments]
        n = _having(segments, postings) if having is None else having.get(word, 0)
        found[word] = _Known(postings, _rarity(n_documents, n))
    return found


def _having(segments: Sequence[Segment], postings: Sequence[Postings]) -> int:
    """Live texts among these."""
    return sum(
        int(np.count_nonzero(segment.alive[rows]))
        for segment, (rows, _) in zip(segments, postings, strict=True)
    )


def _rarity(n_documents: int, having: int) -> float:
    return float(np.log1p((n_documents - having + 0.5) / (having + 0.5)))


def _score(segment: Segment, terms: Sequence[tuple[float, Postings]], mean: float) -> SegmentWords:
    lengths = segment.texts.lengths()
    found_rows, found_scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, segment.n_documents, _BLOCK_ROWS):
        scores: Float64 | None = None
        for weight, (rows, counts) in terms:
            first, last = np.searchsorted(rows, (start, start + _BLOCK_ROWS))
            if first == last:
                continue
            if scores is None:
                scores = np.zeros(min(_BLOCK_ROWS, segment.n_documents - start))
            some, times = rows[first:last], counts[first:last]
            norm = K1 * (1 - B + B * lengths[some] / mean)
            scores[some - start] += weight * times / (times + norm)
        if scores is not None:
            having = np.flatnonzero(scores)
            found_rows.append(having + start)
            found_scores.append(scores[having])
    return SegmentWords(np.concatenate(found_rows), np.concatenate(found_scores))
