"""`ShardedIndex`: an index of several shards, which answers as one index of all their segments would.

Queries are encoded here, once; shards are asked at the same time, and their answers are joined. An addition
goes to the shards of its ids, each of which commits for itself.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.checks import check_many, check_query, check_timeout, whole_number
from latebolt.confidence import Calibration
from latebolt.cpus import available_cpus
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import gathered
from latebolt.errors import IndexCorrupt, IndexUnusable, InvalidInput, ModelMismatch
from latebolt.hits import Explanation, Hit, Stage, match_words
from latebolt.index.documents.checked import check_ids
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format.layout import ModelRecord
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.ingest.read_back import Entry
from latebolt.index.search.bm25 import WordCounts, check_words, word_shares, word_weights
from latebolt.index.search.common_words import LEAST_TEXTS, without_common
from latebolt.index.search.explain import Trace
from latebolt.index.search.fusion import Mode
from latebolt.index.search.known_fields import judge_fields
from latebolt.index.search.matches import match_hits
from latebolt.index.search.query import Cut, Request, hybrid_depth
from latebolt.index.search.word_matches import match_words_of
from latebolt.sharding.gather import Failure, check_all, gather
from latebolt.sharding.local import LocalShard
from latebolt.sharding.merging import NO_CUT, Merged, cut_of, merge
from latebolt.sharding.placement import by_shard
from latebolt.sharding.protocol import (
    CountRequest,
    Figures,
    Method,
    SearchRequest,
    Shard,
    ShardAnswer,
    ShardCounts,
    ShardState,
)
from latebolt.sharding.set_file import read_set, shard_folder
from latebolt.values import as_matrix

DEADLINE: Final = 30.0
_TRIES: Final = 3  # of a search that commits of shards overtake


class ShardedHits(list[Hit]):
    """Hits, and which shards are missing from them: number -> why."""

    def __init__(self, hits: Iterable[Hit], missing: Mapping[int, str]) -> None:
        super().__init__(hits)
        self.missing = dict(missing)


class _Counted(NamedTuple):
    """What all shards together say before a search: words of each query, figures by shard."""

    words: list[WordCounts]
    tokens: int
    figures: dict[int, Figures]


class _Round:
    """One search: until when, and which shards are out of it."""

    def __init__(self, seconds: float | None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.failures: dict[int, Failure] = {}

    @property
    def missing(self) -> dict[int, str]:
        return {number: failure.why for number, failure in sorted(self.failures.items())}


class ShardedIndex:
    """Several shards as one index. Threads may share it.

    Args:
        shards: in the order of their numbers. They belong to this object, which closes them.
        encoder_of: gives the encoder that queries are encoded with, when one is first needed; None where
            there are only vectors, or words.
        name: what the set is called in messages, its folder for example.
        deadline: seconds that a search, or another question, may take; None for ever. Changes have none.
        partial: where shards give no answer, take those of the others: hits then say which are missing, see
            `ShardedHits`. Otherwise that is a ShardUnavailable.
    Raises:
        ShardUnavailable: a shard does not answer, and without its word nothing is known of it.
        IndexCorrupt: a shard is none of this set, or in another's place, or unlike the others.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        encoder_of: Callable[[], Encoder] | None = None,
        name: str = "shards",
        deadline: float | None = DEADLINE,
        partial: bool = False,
    ) -> None:
        self._shards, self._name = list(shards), name
        self._encoder_of = encoder_of
        self._encoder: Encoder | None = None
        self._deadline = None if deadline is None else check_timeout(deadline)
        self._partial, self._closed = partial, False
        self._figures: dict[int, Figures] = {}
        states = self._states(_Round(self._deadline))
        if not states:
            raise InvalidInput(f"{name}: a set needs at least one shard.")
        first = states[min(states)]
        self._dim, self._model = first.dim, first.model
        for number, state in states.items():
            self._check(number, state, first)

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        device: str | Sequence[str] = "cpu",
        threads: int | None = None,
        deadline: float | None = DEADLINE,
        partial: bool = False,
    ) -> ShardedIndex:
        """Open the shard set of a folder, all of it in this process; see `Index.open` for the rest.

        Args:
            path: a folder that `split` has made.
            threads: for the recorded model, and, shared by the shards, for a search.
            deadline, partial: see `ShardedIndex`.
        Raises:
            IndexNotFound: there is none.
            IndexCorrupt: its description or a shard is damaged.
            ModelMismatch: `encoder` is not the model it was made with.
        """
        folder = Path(path)
        n = read_set(folder).shards
        record = read_manifest(shard_folder(folder, 0)).model

        @functools.cache
        def encoder_of() -> Encoder:
            assert record is not None
            return Encoder.load(record.source, record.precision, record.dim, device=device, threads=threads)

        given = encoder_of if encoder is None else lambda: encoder
        each = max(1, (threads or available_cpus()) // n)
        shards: list[Shard] = []
        try:
            for number in range(n):
                place = shard_folder(folder, number)
                shards.append(LocalShard(place, given, device=device, threads=each))
            index = cls(
                shards, None if record is None and encoder is None else given, str(folder), deadline, partial
            )
        except BaseException:
            for shard in shards:
                shard.close()
            raise
        if encoder is not None:
            index.encoder  # noqa: B018 - sees whether it fits
        return index

    # What it is

    @property
    def path(self) -> Path:
        """The set's folder, or its name."""
        return Path(self._name)

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    @property
    def dim(self) -> int:
        """Width of the token vectors."""
        return self._dim

    @property
    def model(self) -> ModelRecord | None:
        """What the index was made with; None for one of vectors only."""
        return self._model

    @property
    def encoder(self) -> Encoder:
        """The encoder, asked for on first use.

        Raises:
            InvalidInput: the index holds vectors only.
            ModelMismatch: it is not the model that the index was made with.
        """
        if self._encoder is None:
            if self._encoder_of is None:
                raise InvalidInput(f"{self._name}: was made without a model. Use search_vectors.")
            encoder = self._encoder_of()
            if self._model is not None and self._model.fingerprint != encoder.fingerprint:
                raise ModelMismatch(
                    f'{self._name}: was made with model "{self._model.source}" at dim {self._model.dim}, and '
                    f'"{encoder.model}" at dim {encoder.dim} gives other vectors. Open it with the model it '
                    "was made with, or index again."
                )
            self._encoder = encoder
        return self._encoder

    def __len__(self) -> int:
        """Documents that a search can find."""
        return sum(state.figures.documents for state in self._states(self._round()).values())

    def __bool__(self) -> bool:
        """There is one, however many documents it holds."""
        return True

    def __repr__(self) -> str:
        return f"ShardedIndex({self._name!r}, {len(self._shards)} shards, dim {self._dim})"

    def __enter__(self) -> ShardedIndex:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release all shards. Whatever is asked of it afterwards is an IndexUnusable."""
        self._closed = True
        for shard in self._shards:
            shard.close()

    def info(self) -> dict[str, Any]:
        """Figures as `Index.info` gives them, of all shards together, and `shards`, a list of each one's.

        `generation` is the sum of the shards' generations, so that it grows with each commit.
        """
        states = self._states(self._round())
        infos = [states[number].info for number in sorted(states)]
        return {**total_info(infos), "path": self._name, "shards": infos}

    def fields(self, most: int = 100) -> list[str]:
        """Names of the fields that documents' metadata has; at most so many."""
        most = whole_number(most, "most")
        answers = self._ask("fields", self._everyone(most), self._round())
        return sorted({name for names in answers.values() for name in names})[:most]

    def get(self, ids: Sequence[str]) -> list[Entry | None]:
        """The documents of these ids, (id, text, metadata), in this order; None for one that is not there.

        Raises:
            InvalidInput: ids is no list of str; names the position.
            ShardUnavailable: a shard of one of the ids does not answer.
        """
        check_many(ids, "ids")
        names = check_ids(ids)
        parts = by_shard(names, names, len(self._shards))
        asked = {number: (some,) for number, some in parts.items()}
        answers = self._ask("get", asked, self._round(), partial=False)
        found: dict[str, Entry | None] = {}
        for number, entries in answers.items():
            found |= dict(zip(parts[number], entries, strict=True))
        return [found[name] for name in names]

    # Searching

    @overload
    def search(
        self,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        explain: Literal[False] = ...,
    ) -> ShardedHits: ...
    @overload
    def search(
        self,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        *,
        explain: Literal[True],
    ) -> Explanation: ...
    def search(
        self,
        query: str,
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
        explain: bool = False,
    ) -> ShardedHits | Explanation:
        """See `Index.search`: the same hits and scores as of one index that has the shards' segments.

        Raises:
            ShardUnavailable: a shard does not answer in time, or fails, and `partial` is not set; or none
                answers.
        """
        request = Request(k, where, exhaustive, mode)
        if explain:
            return self._explained(check_query(query), request)
        return self._search([query], request)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
    ) -> list[ShardedHits]:
        """`search` for several queries."""
        return self._search(queries, Request(k, where, exhaustive, mode))

    def search_vectors(
        self, matrix: npt.ArrayLike, k: int = 10, where: Where | None = None, exhaustive: bool = False
    ) -> ShardedHits:
        """`search` with a query's token vectors.

        Args:
            matrix: float32 [n_query, dim], finite.
        """
        return self.search_vectors_many([as_matrix(matrix, "matrix")], k, where, exhaustive)[0]

    def search_vectors_many(
        self,
        matrices: Sequence[npt.ArrayLike],
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
    ) -> list[ShardedHits]:
        """`search_many` with the token vectors of each query."""
        if isinstance(matrices, np.ndarray) and matrices.ndim == 2:
            raise InvalidInput(
                "matrices should be a list of matrices, one a query, got one. Put it in a list."
            )
        queries = [("", as_matrix(matrix, f"matrices[{i}]")) for i, matrix in enumerate(matrices)]
        return self._hits(queries, Request(k, where, exhaustive), None)

    def _search(self, queries: Sequence[str], request: Request) -> list[ShardedHits]:
        check_many(queries, "queries")
        queries = [check_query(query) for query in queries]
        matrices: Iterable[Float32 | None] = [None] * len(queries)
        calibration = None
        if request.mode != "bm25" and queries:
            matrices, calibration = self.encoder.encode_queries(queries), self.encoder.calibration
        return self._hits(list(zip(queries, matrices, strict=True)), request, calibration)

    def _hits(
        self,
        queries: Sequence[tuple[str, Float32 | None]],
        request: Request,
        calibration: Calibration | None,
    ) -> list[ShardedHits]:
        self._check_open()
        if not queries:
            return []
        round_ = self._round()
        found, _, _ = self._find(queries, request, round_)
        return [
            ShardedHits(_rated(best, matrix, calibration), round_.missing)
            for best, (_, matrix) in zip(found, queries, strict=True)
        ]

    def _find(
        self,
        queries: Sequence[tuple[str, Float32 | None]],
        request: Request,
        round_: _Round,
        explain: bool = False,
    ) -> tuple[list[list[Merged]], dict[int, ShardAnswer], _Counted]:
        """Hits of each query, best first, with what the shards and the counts said."""
        for attempt in range(_TRIES):
            counted = self._count([text for text, _ in queries], request, round_, explain)
            wanted = SearchRequest(
                tuple(text for text, _ in queries),
                tuple(matrix for _, matrix in queries),
                request.k,
                request.where,
                request.exhaustive,
                request.mode,
                counted.tokens,
                sum(each.documents for each in counted.figures.values()),
                tuple(counted.words) if request.mode != "late" else (),
                explain=explain,
            )
            answers = self._ask("search", self._those(counted.figures, wanted), round_)
            self._figures |= {number: answer.figures for number, answer in answers.items()}
            if attempt + 1 < _TRIES and any(
                answer.figures != counted.figures[number] for number, answer in answers.items()
            ):
                continue  # a commit came between: what was counted is not what was searched
            return self._merged(wanted, answers, round_), answers, counted
        raise AssertionError("the last attempt returns")

    def _merged(
        self, wanted: SearchRequest, answers: dict[int, ShardAnswer], round_: _Round
    ) -> list[list[Merged]]:
        by_query = [
            {number: answer.answers[i] for number, answer in answers.items()}
            for i in range(len(wanted.queries))
        ]
        depth = hybrid_depth(wanted.k, wanted.documents or 0, wanted.exhaustive)
        cuts = [cut_of(each.values(), depth) if wanted.mode == "hybrid" else NO_CUT for each in by_query]
        merged = [merge(each, wanted.k, cut) for each, cut in zip(by_query, cuts, strict=True)]
        again: dict[int, list[int]] = {}
        for i, each in enumerate(merged):
            for number in each.unsure:
                again.setdefault(number, []).append(i)
        if again:
            asked = {number: (_again(wanted, some, cuts),) for number, some in again.items()}
            for number, answer in self._ask("search", asked, round_).items():
                for i, each in zip(again[number], answer.answers, strict=True):
                    by_query[i][number] = each
            merged = [merge(each, wanted.k, cut) for each, cut in zip(by_query, cuts, strict=True)]
        return [each.best for each in merged]

    def _count(self, texts: Sequence[str], request: Request, round_: _Round, explain: bool) -> _Counted:
        """What the shards have to know of each other; asked for only where it is not known already."""
        with_words = request.mode != "late" or explain
        known = {n: each for n, each in self._figures.items() if n not in round_.failures}
        if (
            not with_words
            and request.where is None
            and len(known) + len(round_.failures) == len(self._shards)
        ):
            return _Counted([], sum(each.tokens for each in known.values()), known)
        wanted = CountRequest(tuple(texts) if with_words else (), request.where)
        answers: dict[int, ShardCounts] = self._ask("count", self._everyone(wanted), round_)
        self._judge_fields(answers.values())
        words = [WordCounts() for _ in wanted.queries]
        for answer in answers.values():
            words = [each.plus(more) for each, more in zip(words, answer.words, strict=True)]
        if request.mode != "late":
            for each in words:
                check_words(each.without)
        figures = {number: answer.figures for number, answer in answers.items()}
        self._figures |= figures
        return _Counted(words, sum(answer.tokens for answer in answers.values()), figures)

    def _judge_fields(self, answers: Iterable[ShardCounts]) -> None:
        answers = list(answers)
        missing = [name for name in answers[0].missing if all(name in each.missing for each in answers)]
        judge_fields(missing, sorted({name for each in answers for name in each.fields}), self._name)

    def _explained(self, query: str, request: Request) -> Explanation:
        self._check_open()
        round_, trace = self._round(), Trace(True)
        matrix, calibration = None, None
        if request.mode != "bm25":
            encoder = self.encoder
            with trace.stage("encode the query"):
                matrix, calibration = encoder.encode_queries([query])[0], encoder.calibration
        with trace.stage("ask the shards"):
            [best], answers, counted = self._find([(query, matrix)], request, round_, explain=True)
        hits = ShardedHits(_rated(best, matrix, calibration), round_.missing)
        [words] = counted.words
        with trace.stage("align words", len(hits)), gathered():
            if matrix is None:
                weights = word_weights(words, query)
                tokens = [match_words_of(query, hit.text or "", weights) for hit in hits]
            else:
                tokens = match_hits(self.encoder, (query, matrix), hits, lambda place: _vectors(best[place]))
                shares = word_shares(words, query, LEAST_TEXTS)
                tokens = [without_common(query, matches, shares) for matches in tokens]
            alignments = [match_words(query, hit.text or "", m) for hit, m in zip(hits, tokens, strict=True)]
        roads = tuple(
            road._replace(segment=f"shard-{number}/{road.segment}")
            for number, answer in sorted(answers.items())
            for road in answer.roads
        )
        return Explanation(hits, _stages(trace.stages, answers), alignments, tokens, roads)

    # Asking

    def _round(self) -> _Round:
        self._check_open()
        return _Round(self._deadline)

    def _check_open(self) -> None:
        if self._closed:
            raise IndexUnusable(f"{self._name}: this index was closed. Open it again.")

    def _everyone(self, *arguments: Any) -> dict[int, tuple[Any, ...]]:
        return self._those(range(len(self._shards)), *arguments)

    @staticmethod
    def _those(numbers: Iterable[int], *arguments: Any) -> dict[int, tuple[Any, ...]]:
        return dict.fromkeys(numbers, arguments)

    def _ask(
        self,
        method: Method,
        asked: Mapping[int, tuple[Any, ...]],
        round_: _Round,
        partial: bool | None = None,
    ) -> dict[int, Any]:
        """Answers by shard; one that failed earlier in the round is not asked again.

        Raises:
            ShardUnavailable: one fails, and that is not allowed; or all do.
        """
        asked = {number: each for number, each in asked.items() if number not in round_.failures}
        found = gather(self._shards, method, asked, round_.deadline)
        round_.failures |= found.failures
        allowed = self._partial if partial is None else partial
        if not allowed or len(round_.failures) == len(self._shards):
            check_all(round_.failures, self._name)
        return found.answers

    def _states(self, round_: _Round) -> dict[int, ShardState]:
        states: dict[int, ShardState] = self._ask("state", self._everyone(), round_)
        self._figures |= {number: state.figures for number, state in states.items()}
        return states

    def _check(self, number: int, state: ShardState, first: ShardState) -> None:
        here, n = (number, len(self._shards)), len(self._shards)
        if state.shard != here:
            got = "an index of no set" if state.shard is None else "shard {} of {}".format(*state.shard)
            raise IndexCorrupt(
                self._name, f"shard-{number}", f"shard {number} of {n}", got, "Put its own folder there."
            )
        theirs, ours = (state.dim, state.bits, state.fingerprint), (first.dim, first.bits, first.fingerprint)
        if theirs != ours:
            raise IndexCorrupt(
                self._name,
                f"dim, bits and model of shard-{number}",
                ours,
                theirs,
                "Put its own folder there.",
            )


def total_info(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of several parts as those of one index."""
    total = dict(infos[0])
    for name in ("documents", "tokens", "segments", "passages", "deleted", "bytes", "generation"):
        total[name] = sum(each[name] for each in infos)
    truncated = [each["truncated"] for each in infos]
    total["truncated"] = None if None in truncated else sum(truncated)
    return total


def _again(wanted: SearchRequest, some: Sequence[int], cuts: Sequence[Cut]) -> SearchRequest:
    """The search of some of the queries, with cuts."""
    return replace(
        wanted,
        queries=tuple(wanted.queries[i] for i in some),
        matrices=tuple(wanted.matrices[i] for i in some),
        words=tuple(wanted.words[i] for i in some),
        cuts=tuple(cuts[i] for i in some),
    )


def _rated(best: Sequence[Merged], matrix: Float32 | None, calibration: Calibration | None) -> list[Hit]:
    if calibration is None or matrix is None:
        return [each.hit for each in best]
    return [
        each.hit
        if each.maxsim is None
        else each.hit.with_confidence(*calibration.of(each.maxsim, len(matrix)))
        for each in best
    ]


def _vectors(each: Merged) -> Float32:
    assert each.vectors is not None
    return each.vectors


def _stages(own: Sequence[Stage], answers: Mapping[int, ShardAnswer]) -> tuple[Stage, ...]:
    """Stages of the whole: shards work side by side, so that the slowest one's time counts."""
    shards: dict[str, Stage] = {}
    for answer in answers.values():
        for stage in answer.stages:
            before = shards.get(stage.name, Stage(stage.name, 0.0, 0))
            shards[stage.name] = Stage(
                stage.name, max(before.ms, stage.ms), before.documents + stage.documents
            )
    names = [stage.name for stage in own]
    place = names.index("ask the shards") + 1
    return (*own[:place], *shards.values(), *own[place:])
