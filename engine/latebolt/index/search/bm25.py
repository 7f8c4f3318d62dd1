"""Scores the documents of several segments by their words: BM25 with the statistics of the whole index.

A word's rarity and the average length are those of all live documents together, so that a score depends
neither on how documents are spread over segments, nor on deleted ones, nor on the filter. Of documents that
were cut, passages are what is scored and counted. Memory is taken for the documents that hold a word of the
query, not for all of the index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


class _Known(NamedTuple):
    """A word of the query: by segment, the documents that hold it; how many live ones do, and how rare that
    is."""

    postings: list[Postings]
    having: int
    rarity: float


class _Term(NamedTuple):
    """A word of the query with its weight and, by segment, the documents that hold it."""

    weight: float
    postings: list[Postings]


def score_words(segments: Sequence[Segment], query: str) -> WordScores:
    """BM25 of a query; words that no document has, and syntax of any kind, add nothing to a document.

    A segment of version 2, whose texts were cut into words by the rule of then, is asked for the query's
    words by that rule. A word that both rules give is as rare as it is in the whole index.

    Raises:
        IndexUnusable: a segment was written by a version that kept no words.
    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with
        Lucene's ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
    """
    for segment in segments:
        if not segment.texts.has_words:
            raise IndexUnusable(
                f"{segment.folder}: was written without the words that BM25 needs. "
                'Compact the index to add them (Index.compact or "latebolt compact").'
            )
    counts = [segment.counted_words() for segment in segments]
    n_documents = sum(documents for documents, _ in counts)
    mean = max(sum(words for _, words in counts) / max(n_documents, 1), 1.0)
    rules = {True: words_of, False: old_words_of}
    wanted = {segment.texts.words_are_current for segment in segments} or {True}
    counted = {current: Counter(rules[current](query)) for current in wanted}
    known = _look_up(segments, n_documents, {word for each in counted.values() for word in each})
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


def word_weights(segments: Sequence[Segment], query: str) -> dict[str, float]:
    """The words of a query that documents have, each with its share of what the rarest of them weighs.

    Segments must have words; those of version 2 are asked by the rule of today.
    """
    n_documents = sum(segment.counted_words()[0] for segment in segments)
    known = _look_up(segments, n_documents, set(words_of(query)))
    rarities = {word: each.rarity for word, each in known.items() if each.having}
    most = max(rarities.values(), default=1.0)
    return {word: rarity / most for word, rarity in rarities.items()}


def word_shares(segments: Sequence[Segment], query: str, least: int) -> dict[str, float]:
    """The words of a query, each with the share of live texts that hold it.

    None of them where segments keep no words, or where texts are fewer than `least`.
    """
    if not all(segment.texts.has_words for segment in segments):
        return {}
    n_documents = sum(segment.counted_words()[0] for segment in segments)
    if n_documents < least:
        return {}
    known = _look_up(segments, n_documents, set(words_of(query)))
    return {word: each.having / n_documents for word, each in known.items()}


def _look_up(segments: Sequence[Segment], n_documents: int, words: Iterable[str]) -> dict[str, _Known]:
    found = {}
    for word in words:
        postings = [segment.texts.postings(word) for segment in segments]
        having = sum(
            int(np.count_nonzero(segment.alive[rows]))
            for segment, (rows, _) in zip(segments, postings, strict=True)
        )
        rarity = float(np.log1p((n_documents - having + 0.5) / (having + 0.5)))
        found[word] = _Known(postings, having, rarity)
    return found


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
