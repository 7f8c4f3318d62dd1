"""One query over one snapshot: every segment is ranked by late interaction, by words or by both.

Filters and deletions are applied before anything is cut to k.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.checks import check_k
from latebolt.codec.base import Codec, Scorer
from latebolt.index.filters.parse_dict import Where, parse_where
from latebolt.index.search.bm25 import WordCounts, WordScores, score_words
from latebolt.index.search.explain import Trace
from latebolt.index.search.fusion import DEPTH, Mode, check_mode, fuse
from latebolt.index.search.grouping import rows_of_documents
from latebolt.index.search.on_device import Candidates, QueryBatch
from latebolt.index.search.planning import level
from latebolt.index.search.rank import SegmentRequest, best_among, best_rows
from latebolt.index.search.stages import Rows, top_documents
from latebolt.index.store.codecs import check_columns
from latebolt.index.store.segment import Segment
from latebolt.index.store.store import Snapshot


@dataclass(frozen=True)
class Request:
    """What is wanted of a search; `Index.search` says what the members mean.

    Raises:
        InvalidInput: k is below 1, there is no such mode, or the filter cannot be read.
    """

    k: int = 10
    where: Where | None = None
    exhaustive: bool = False
    mode: Mode = "late"

    def __post_init__(self) -> None:
        if self.where is not None:
            parse_where(self.where)  # here too, since an empty index has no segment that would read it
        object.__setattr__(self, "k", check_k(self.k))
        check_mode(self.mode)


class Ranks(NamedTuple):
    """The scores by which a document is a candidate of mode "hybrid": in the ranking by late interaction and
    in that by words. None where it is not among the best there."""

    late: float | None = None
    words: float | None = None


class Cut(NamedTuple):
    """The least scores of candidates in the two rankings of mode "hybrid"."""

    late: float
    words: float

    def keeps(self, ranks: Ranks) -> bool:
        """Whether a document stays a candidate."""
        return (ranks.late is not None and ranks.late >= self.late) or (
            ranks.words is not None and ranks.words >= self.words
        )


class Rankings(NamedTuple):
    """The scores of all candidates in the two rankings of mode "hybrid", in any order."""

    late: list[float]
    words: list[float]

    def cut(self, depth: int) -> Cut:
        """What leaves the best so many of each ranking, and all that equal the last of them."""
        return Cut(*(sorted(each)[-depth] if len(each) > depth else -math.inf for each in self))

    def above(self, cut: Cut) -> Rankings:
        """Those that a cut leaves."""
        return Rankings(
            *([score for score in each if score >= least] for each, least in zip(self, cut, strict=True))
        )


class Whole(NamedTuple):
    """What a query of a part of an index has to know of all of it, so that the part answers as the whole.

    Args:
        tokens: of the rows that the filter leaves.
        documents: live ones.
        words: what BM25 goes by; None where words are not asked for.
        cut: of candidates in mode "hybrid"; None while it is not known.
    """

    tokens: int
    documents: int
    words: WordCounts | None = None
    cut: Cut | None = None


class Found(NamedTuple):
    """A document that was found, by the row of its best passage.

    maxsim: the part of its score that is late interaction, with all of the query; None where nothing is.
    ranks: in mode "hybrid".
    """

    score: float
    segment: Segment
    row: int
    maxsim: float | None = None
    ranks: Ranks | None = None


def hybrid_depth(k: int, n_documents: int, exhaustive: bool) -> int:
    """Candidates of each ranking in mode "hybrid".

    Args:
        n_documents: live ones of the whole index.
    """
    return max(level(max(DEPTH, k)), n_documents if exhaustive else 0)


class Query:
    """One query.

    Args:
        codec_of: the codec of that name, None for the one of unquantised segments.
        matrix: float32 [n_query, dim]; None for mode "bm25".
        text: "" for mode "late".
        threads: None for all.
        batch: of the queries that devices score together, with this one's number; None for the CPU.
        whole: of the index that the snapshot is a part of; None where it is all of it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        codec_of: Callable[[str | None], Codec],
        matrix: Float32 | None,
        text: str,
        threads: int | None,
        trace: Trace,
        batch: tuple[QueryBatch, int] | None = None,
        whole: Whole | None = None,
    ) -> None:
        self._batch, self._filtered, self._whole = batch, False, whole
        self._snapshot, self._codec_of, self._threads, self._trace = snapshot, codec_of, threads, trace
        self._matrix, self._text = matrix, text
        self._scorers: dict[str | None, Scorer] = {}
        self.rankings: Rankings | None = None
        """Of a part, in mode "hybrid", the scores of its candidates, once there is an answer."""

    def find(self, request: Request) -> list[Found]:
        """The k best, best first, ties by id."""
        self._filtered = request.where is not None
        allowed: dict[str, Rows | None] = {}
        for segment in self._snapshot.segments:
            with self._trace.stage("filter", segment.n_documents):
                if self._batch is not None and request.where is None:
                    allowed[segment.name] = self._batch[0].live_rows(segment)
                else:
                    allowed[segment.name] = _allowed(segment, request.where)
        if request.mode == "late":
            found = self._late(allowed, request.k, request.exhaustive)
        elif request.mode == "bm25":
            found = _best_words(self._snapshot.segments, self._words(), allowed, request.k)
        else:
            found = self._both(allowed, request)
        return ordered(found, request.k)

    def _late(self, allowed: Mapping[str, Rows | None], k: int, exhaustive: bool) -> list[Found]:
        found: list[Found] = []
        assert self._matrix is not None
        n_query, dim = self._matrix.shape
        why = "exhaustive search was asked for" if exhaustive else ""
        on_device = self._on_device(allowed, k)
        # What is planned by; with devices nothing is, and to count tokens of millions of rows takes a while.
        planned = [] if on_device else self._snapshot.segments
        tokens = {s.name: s.count_tokens(allowed[s.name]) for s in planned}
        total = max(sum(tokens.values()), 1 if self._whole is None else self._whole.tokens, 1)
        for segment in self._snapshot.segments:
            rows = allowed[segment.name]
            if rows is not None and len(rows) == 0:
                continue
            scorer = self._scorer(segment)
            candidates = on_device.get(segment.name)
            if candidates is not None and candidates.rows is not None:
                numbers, scores = best_among(segment, scorer, candidates.rows, k, candidates.why, self._trace)
            else:
                everything = why if candidates is None else candidates.why
                n_tokens = tokens.get(segment.name, 0)
                request = SegmentRequest(k, everything, n_query, dim, n_tokens, n_tokens / total)
                numbers, scores = best_rows(segment, scorer, rows, request, self._trace)
            found += _found(segment, numbers, scores, scores)
        return found

    def _on_device(self, allowed: Mapping[str, Rows | None], k: int) -> Mapping[str, Candidates]:
        """What devices say of each segment; nothing where there are none."""
        if self._batch is None:
            return {}
        batch, number = self._batch
        return batch.candidates(number, allowed, self._filtered, k, self._trace)

    def _scorer(self, segment: Segment) -> Scorer:
        codec = self._codec_of(segment.codec)
        check_columns(segment, codec)
        if segment.codec not in self._scorers:
            assert self._matrix is not None
            with self._trace.stage("score centroids"):
                scorer = codec.scorer(self._matrix, self._threads)
            self._scorers[segment.codec] = self._trace.scorer(scorer)
        return self._scorers[segment.codec]

    def _words(self) -> WordScores:
        with self._trace.stage("score words", self._snapshot.n_documents):
            whole = None if self._whole is None else self._whole.words
            return score_words(self._snapshot.segments, self._text, whole)

    def _both(self, allowed: Mapping[str, Rows | None], request: Request) -> list[Found]:
        n_documents = self._snapshot.n_documents if self._whole is None else self._whole.documents
        depth = hybrid_depth(request.k, n_documents, request.exhaustive)
        words = self._words()
        late = self._late(allowed, depth, request.exhaustive)
        worded = _best_words(self._snapshot.segments, words, allowed, depth)
        cut = self._cut(late, worded, depth)
        candidates: dict[str, set[int]] = {}
        for found, least in ((late, cut.late), (worded, cut.words)):
            for each in found:
                if each.score >= least:
                    candidates.setdefault(each.segment.name, set()).add(each.row)
        fused = self._fused(candidates, words, request.k)
        return fused if self._whole is None else _with_ranks(fused, late, worded)

    def _cut(self, late: Sequence[Found], worded: Sequence[Found], depth: int) -> Cut:
        """Of the whole, as far as that is known; a part keeps what it may need to be known by."""
        rankings = Rankings([each.score for each in late], [each.score for each in worded])
        cut = rankings.cut(depth)
        if self._whole is None:
            return cut
        self.rankings = rankings.above(cut)
        return cut if self._whole.cut is None else self._whole.cut

    def _fused(self, candidates: Mapping[str, set[int]], words: WordScores, k: int) -> list[Found]:
        """Of each segment the candidates that may be among the k best by both scores."""
        found: list[Found] = []
        n_query = 0 if self._matrix is None else len(self._matrix)
        for segment, scores in zip(self._snapshot.segments, words.by_segment, strict=True):
            rows = np.array(sorted(candidates.get(segment.name, ())), np.int64)
            if len(rows):
                if segment.passages is not None:  # the sum may be best where neither score is
                    rows = rows_of_documents(segment.passages, rows)
                columns = {column.name: segment.column(column.name) for column in segment.columns}
                late = self._scorer(segment).exact(columns, segment.offsets, rows)
                segment.check_finite(late)
                fused = fuse(late, n_query, scores.of(rows), words.ceiling)
                best = top_documents(fused, segment.first_rows(rows), k)
                found += _found(segment, rows[best], fused[best], late[best])
        return found


def _with_ranks(found: Sequence[Found], late: Sequence[Found], worded: Sequence[Found]) -> list[Found]:
    """What was found, each with its document's scores in the two rankings."""
    scores = [
        dict(zip(_documents_of(some), [each.score for each in some], strict=True)) for some in (late, worded)
    ]
    return [
        each._replace(ranks=Ranks(scores[0].get(document), scores[1].get(document)))
        for each, document in zip(found, _documents_of(found), strict=True)
    ]


def _documents_of(found: Sequence[Found]) -> list[tuple[str, int]]:
    """Segment and first row of the document of each."""
    firsts: list[tuple[str, int]] = []
    for segment, some in itertools.groupby(found, key=lambda each: each.segment):
        rows = np.array([each.row for each in some], np.int64)
        first = segment.first_rows(rows)
        firsts += [(segment.name, row) for row in (rows if first is None else first).tolist()]
    return firsts


def _allowed(segment: Segment, where: Where | None) -> Rows | None:
    """Rows that may be found; None for all of the segment."""
    if where is None and segment.n_deleted == 0:
        return None
    return np.flatnonzero(segment.select(where))


def _best_words(
    segments: Iterable[Segment], words: WordScores, allowed: Mapping[str, Rows | None], k: int
) -> list[Found]:
    """Of each segment the documents that may be among the k best by words; none without a word in common."""
    found: list[Found] = []
    for segment, scores in zip(segments, words.by_segment, strict=True):
        rows = allowed[segment.name]
        having = scores if rows is None else scores.among(rows)
        best = top_documents(having.scores, segment.first_rows(having.rows), k)
        found += _found(segment, having.rows[best], having.scores[best])
    return found


def _found(
    segment: Segment, rows: Rows, scores: npt.NDArray[Any], maxsim: npt.NDArray[Any] | None = None
) -> list[Found]:
    parts: Iterable[float | None] = itertools.repeat(None, len(rows)) if maxsim is None else maxsim.tolist()
    return [
        Found(score, segment, row, part)
        for score, row, part in zip(scores.tolist(), rows.tolist(), parts, strict=True)
    ]


def ordered(found: list[Found], k: int) -> list[Found]:
    """The k best, best first, ties by id. Ids are read only where there are ties, which are rare."""
    found = sorted(found, key=lambda each: -each.score)
    ties = {a.score for a, b in itertools.pairwise(found[: k + 1]) if a.score == b.score}
    if ties:
        rows: dict[Segment, list[int]] = {}
        for each in found:
            if each.score in ties:
                rows.setdefault(each.segment, []).append(each.row)
        ids = {
            (segment, row): id
            for segment, some in rows.items()
            for row, id in zip(some, segment.ids(np.array(some, np.int64)), strict=True)
        }
        found.sort(key=lambda each: (-each.score, ids.get((each.segment, each.row), "")))
    return found[:k]
