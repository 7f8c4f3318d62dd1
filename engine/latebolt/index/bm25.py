"""Scores the documents of several segments by their words: BM25 with the statistics of the whole index.

A word's rarity and the average length are those of all live documents together, so that a score depends
neither on how documents are spread over segments, nor on deleted ones, nor on the filter. Of documents that
were cut, passages are what is scored and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.errors import IndexUnusable
from latebolt.index.segment import Segment
from latebolt.index.words import words_of

Float64 = npt.NDArray[np.float64]

K1, B = 1.2, 0.75


class WordScores(NamedTuple):
    """BM25 of every row of each segment, deleted ones included, and what a perfect document would have.

    `ceiling` is above 0 for a query that has a word; a document without any of the query's words has 0.
    """

    by_segment: list[Float64]
    ceiling: float


def score_words(segments: Sequence[Segment], query: str) -> WordScores:
    """BM25 of a query; words that no document has, and syntax of any kind, add nothing to a document.

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
    lengths = [segment.texts.lengths() for segment in segments]
    live = [n[segment.alive] for n, segment in zip(lengths, segments, strict=True)]
    n_documents = sum(int(np.count_nonzero(n)) for n in live)
    mean = max(sum(int(n.sum()) for n in live) / max(n_documents, 1), 1.0)
    scores = [np.zeros(segment.n_documents) for segment in segments]
    norms = [K1 * (1 - B + B * n / mean) for n in lengths]
    ceiling = 0.0
    for word, times in sorted(Counter(words_of(query)).items()):
        postings = [segment.texts.postings(word) for segment in segments]
        having = sum(
            int(np.count_nonzero(segment.alive[rows]))
            for segment, (rows, _) in zip(segments, postings, strict=True)
        )
        weight = times * (K1 + 1) * float(np.log1p((n_documents - having + 0.5) / (having + 0.5)))
        ceiling += weight
        for score, norm, (rows, counts) in zip(scores, norms, postings, strict=True):
            score[rows] += weight * counts / (counts + norm[rows])
    return WordScores(scores, ceiling)
