"""`ShardedIndex`: an index of several shards, which answers as one index of all their segments would.

Queries are encoded here, once; shards are asked at the same time, and their answers are joined. An addition
goes to the shards of its ids, each of which commits for itself.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.checks import check_many, check_query, check_timeout, whole_number
from latebolt.confidence import Calibration
from latebolt.cpus import available_cpus
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import Pooling
from latebolt.encoder.tally import gathered
from latebolt.errors import IndexCorrupt, InvalidInput, ModelMismatch
from latebolt.hits import Explanation, Hit, PartialHits, match_words
from latebolt.index.documents.checked import CheckedDocument, check_ids, chosen_ids
from latebolt.index.documents.origins import Place
from latebolt.index.documents.pooled import kept_pooling
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format.layout import ModelRecord
from latebolt.index.ingest.read_back import Entry
from latebolt.index.ingest.relabel import change_of
from latebolt.index.ingest.sources import Batch, batches_of, one_batch
from latebolt.index.ingest.unit_length import unit_vectors
from latebolt.index.places import masked
from latebolt.index.search.bm25 import word_shares, word_weights
from latebolt.index.search.common_words import LEAST_TEXTS, without_common
from latebolt.index.search.explain import Trace
from latebolt.index.search.fusion import Mode
from latebolt.index.search.matches import match_hits
from latebolt.index.search.query import Request
from latebolt.index.search.word_matches import match_words_of
from latebolt.progress import progress_bar
from latebolt.sharding import changing
from latebolt.sharding.gather import Round, Shards
from latebolt.sharding.local import LocalShard
from latebolt.sharding.merging import Merged
from latebolt.sharding.placement import by_shard
from latebolt.sharding.protocol import (
    Shard,
    ShardState,
)
from latebolt.sharding.searching import Searcher, stages_of
from latebolt.sharding.set_file import read_set, shard_place
from latebolt.values import TokenVectors, as_matrix, as_token_vectors

T = TypeVar("T")

DEADLINE: Final = 30.0


class ShardedIndex:
    """Several shards as one index. Threads may share it.

    Args:
        shards: in the order of their numbers. They belong to this object, which closes them.
        encoder_of: gives the encoder that queries are encoded with, when one is first needed; None where
            there are only vectors, or words.
        name: what the set is called in messages, its folder for example.
        deadline: seconds that a search, or another question, may take; None for ever. Changes have none.
        partial: where shards give no answer, take those of the others: hits then say which are missing, see
            `PartialHits`. Otherwise that is a ShardUnavailable.
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
        seconds = None if deadline is None else check_timeout(deadline)
        self._shards, self._name = Shards(shards, name, seconds, partial), name
        self._encoder_of = encoder_of
        self._encoder: Encoder | None = None
        self._searcher = Searcher(self._shards)
        if not len(self._shards):
            raise InvalidInput(f"{name}: a set needs at least one shard.")
        self._unseen = set(range(len(self._shards)))  # shards of which nothing is known yet
        self._first: ShardState | None = None  # what the others have to be like
        states = self._states(self._shards.begin())
        first = states[min(states)]
        self._dim: int = first.dim
        self._model: ModelRecord | None = first.model

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        device: str | Sequence[str] = "cpu",
        threads: int | None = None,
        deadline: float | None = DEADLINE,
        partial: bool = False,
        cache: str | Path | None = None,
        refresh: float | None = 60.0,
    ) -> ShardedIndex:
        """Open the shard set of a folder, all of it in this process; see `Index.open` for the rest.

        Args:
            path: a folder that `split` has made, or the URI where `latebolt publish` has put it.
            threads: for the recorded model, and, shared by the shards, for a search.
            deadline, partial: see `ShardedIndex`.
            cache, refresh: of a URI.
        Raises:
            IndexNotFound: there is none.
            IndexCorrupt: its description or a shard is damaged.
            ModelMismatch: `encoder` is not the model it was made with.
        """
        n = read_set(path).shards

        @functools.cache
        def recorded() -> Encoder:
            record = index.model
            if record is None:
                raise without_model(index.path)
            return Encoder.load(record.source, record.precision, record.dim, device=device, threads=threads)

        encoder_of = recorded if encoder is None else lambda: encoder
        settings: dict[str, Any] = {
            "device": device,
            "threads": max(1, (threads or available_cpus()) // n),
            "cache": cache,
            "refresh": refresh,
        }
        shards: list[Shard] = []
        try:
            for number in range(n):
                shards.append(LocalShard(shard_place(path, number), encoder_of, **settings))
            index = cls(shards, encoder_of, masked(str(path)), deadline, partial)
        except BaseException:
            for shard in shards:
                shard.close()
            raise
        if encoder is not None:
            index.encoder  # noqa: B018 - sees whether it fits
        return index

    def asked(self, deadline: float | None, partial: bool) -> ShardedIndex:
        """The same index, asked in another way, see `ShardedIndex`; and the same shards to close."""
        seconds = None if deadline is None else check_timeout(deadline)
        other = copy.copy(self)
        other._shards = self._shards.asked(seconds, partial)
        other._searcher = self._searcher.of(other._shards)
        return other

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
    def _pooling(self) -> Pooling:
        info = {} if self._first is None else self._first.info
        return kept_pooling(info)

    @property
    def encoder(self) -> Encoder:
        """The encoder, asked for on first use.

        Raises:
            InvalidInput: the index holds vectors only.
            ModelMismatch: it is not the model that the index was made with.
        """
        if self._encoder is None:
            if self._encoder_of is None:
                raise without_model(self._name)
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
        return sum(state.figures.documents for state in self._states(self._shards.begin()).values())

    def __bool__(self) -> bool:
        """There is one, however many documents it holds."""
        return True

    def __repr__(self) -> str:
        return f"ShardedIndex({self._name!r}, {len(self._shards)} shards, dim {self._dim})"

    def __enter__(self) -> ShardedIndex:
        self._shards.check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release all shards. Whatever is asked of it afterwards is an IndexUnusable."""
        self._shards.close()

    def info(self) -> dict[str, Any]:
        """Figures as `Index.info` gives them, of all shards together, and `shards`, a list of each one's.

        `generation` is the sum of the shards' generations, so that it grows with each commit.
        """
        states = self._states(self._shards.begin())
        infos = [states[number].info for number in sorted(states)]
        return {**total_info(infos), "path": self._name, "shards": infos}

    def fields(self, most: int = 100) -> list[str]:
        """Names of the fields that documents' metadata has; at most so many."""
        most = whole_number(most, "most")
        answers = self._shards.ask(self._shards.begin(), "fields", self._shards.everyone(most))
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
        answers = self._shards.ask(self._shards.begin(), "get", asked, partial=False)
        found: dict[str, Entry | None] = {}
        for number, entries in answers.items():
            found |= dict(zip(parts[number], entries, strict=True))
        return [found[name] for name in names]

    # Changing

    def add(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
        places: Iterable[Place | None] | None = None,
    ) -> list[str]:
        """Add documents, each to the shard of its id; see `Index.add`.

        Each shard commits its part at once: when this returns, all of them have. If the arguments are other
        iterables than sequences, that is so for each batch of 32,768 documents.

        Args:
            ids: one str a text; an id that exists is replaced. Numbers that no document of the set ever had
                by default.
        Raises:
            ShardUnavailable: some shards have committed, which it names, and others have not. Repeating the
                call is safe; with the error's `ids` where there were none.
            InvalidInput, IndexLocked, StorageFull: see `Index.add`; nothing was committed.
        """
        self._shards.check_open()
        batches = batches_of(texts, ids, metadata, places)
        with progress_bar(None, "index", "text", show_progress) as bar:
            return self._changed(changing.add, batches, timeout, lambda: self.encoder, bar)

    def add_checked(self, documents: Sequence[CheckedDocument], timeout: float | None = None) -> list[str]:
        """`add` of documents that were checked at another door, such as the server's."""
        self._shards.check_open()
        batches = iter([Batch(0, documents)])
        with progress_bar(None, "index", "text", False) as bar:
            return self._changed(changing.add, batches, timeout, lambda: self.encoder, bar)

    def add_vectors(
        self,
        ids: Sequence[str] | None,
        token_vectors: TokenVectors | Iterable[npt.ArrayLike],
        texts: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        timeout: float | None = None,
        normalize: bool | None = None,
    ) -> list[str]:
        """Add documents whose token vectors are there already; see `add` and `Index.add_vectors`."""
        self._shards.check_open()
        vectors = as_token_vectors(token_vectors, "token_vectors", self._dim)
        if vectors.dim != self._dim:
            raise InvalidInput(f"token_vectors should have dim {self._dim}, got {vectors.dim}.")
        vectors = unit_vectors(vectors, "token_vectors", normalize)
        batch = one_batch(len(vectors), ids, texts, metadata)
        return self._changed(changing.add_vectors, batch, vectors, timeout)

    def delete(
        self, ids: Sequence[str] | None = None, timeout: float | None = None, where: Where | None = None
    ) -> int:
        """Delete documents; says how many there were. See `Index.delete`.

        Raises:
            ShardUnavailable: some shards have committed and others have not; repeating the call is safe.
        """
        names = chosen_ids(ids, where)
        self._searcher.check_fields(where)
        return self._changed(changing.delete, names, where, timeout)

    def update_metadata(
        self,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] | None = None,
        replace: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Change the metadata of documents; says of how many. See `Index.update_metadata`.

        Raises:
            ShardUnavailable: some shards have committed and others have not; repeating the call is safe.
        """
        names = chosen_ids(ids, where)
        change_of(set, unset, replace)  # refuses what does not fit before anything is asked
        self._searcher.check_fields(where)
        change = {"set": set, "unset": unset, "replace": replace}
        return self._changed(changing.update, names, where, timeout, change)

    def _changed(self, work: Callable[..., T], *arguments: Any) -> T:
        """What a change gives. What is known of the shards is asked for again afterwards."""
        try:
            return work(self._shards, *arguments)
        finally:
            self._searcher.forget()

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
    ) -> PartialHits: ...
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
    ) -> PartialHits | Explanation:
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
    ) -> list[PartialHits]:
        """`search` for several queries."""
        return self._search(queries, Request(k, where, exhaustive, mode))

    def search_vectors(
        self, matrix: npt.ArrayLike, k: int = 10, where: Where | None = None, exhaustive: bool = False
    ) -> PartialHits:
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
    ) -> list[PartialHits]:
        """`search_many` with the token vectors of each query."""
        if isinstance(matrices, np.ndarray) and matrices.ndim == 2:
            raise InvalidInput(
                "matrices should be a list of matrices, one a query, got one. Put it in a list."
            )
        queries = [("", as_matrix(matrix, f"matrices[{i}]")) for i, matrix in enumerate(matrices)]
        return self._hits(queries, Request(k, where, exhaustive), None)

    def _search(self, queries: Sequence[str], request: Request) -> list[PartialHits]:
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
    ) -> list[PartialHits]:
        self._shards.check_open()
        if not queries:
            return []
        round_ = self._begin()
        found = self._searcher.find(queries, request, round_)
        return [
            PartialHits(_rated(best, matrix, calibration), round_.missing)
            for best, (_, matrix) in zip(found.best, queries, strict=True)
        ]

    def _explained(self, query: str, request: Request) -> Explanation:
        self._shards.check_open()
        round_, trace = self._begin(), Trace(True)
        matrix, calibration = None, None
        if request.mode != "bm25":
            encoder = self.encoder
            with trace.stage("encode the query"):
                matrix, calibration = encoder.encode_queries([query])[0], encoder.calibration
        with trace.stage("ask the shards"):
            found = self._searcher.find([(query, matrix)], request, round_, explain=True)
        [best], [words] = found.best, found.counted.words
        hits = PartialHits(_rated(best, matrix, calibration), round_.missing)
        with trace.stage("align words", len(hits)), gathered():
            if matrix is None:
                weights = word_weights(words, query)
                tokens = [match_words_of(query, hit.text or "", weights) for hit in hits]
            else:
                tokens = match_hits(
                    self.encoder,
                    (query, matrix),
                    hits,
                    lambda place: _vectors(best[place]),
                    self._pooling,
                )
                shares = word_shares(words, query, LEAST_TEXTS)
                tokens = [without_common(query, matches, shares) for matches in tokens]
            alignments = [match_words(query, hit.text or "", m) for hit, m in zip(hits, tokens, strict=True)]
        roads = tuple(
            road._replace(segment=f"shard-{number}/{road.segment}")
            for number, answer in sorted(found.answers.items())
            for road in answer.roads
        )
        return Explanation(hits, stages_of(trace.stages, found.answers), alignments, tokens, roads)

    # Asking

    def _states(self, round_: Round, last: bool = True) -> dict[int, ShardState]:
        states: dict[int, ShardState] = self._shards.ask(round_, "state", self._shards.everyone(), last=last)
        first = self._first or states[min(states)]
        for number in self._unseen & states.keys():
            self._check(number, states[number], first)
        self._unseen -= states.keys()
        self._first = first
        self._searcher.learn({number: state.figures for number, state in states.items()})
        return states

    def _begin(self) -> Round:
        """Begin a search. A shard that was not seen yet is looked at first: it may be none of this set."""
        round_ = self._shards.begin()
        if self._unseen:
            self._states(round_, last=False)
        return round_

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


def without_model(name: object) -> InvalidInput:
    """What is said where texts are to be encoded and there is nothing to encode them with."""
    return InvalidInput(f"{name}: was made without a model. Use search_vectors, or open it with encoder=...")


def total_info(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of several parts as those of one index."""
    total = dict(infos[0])
    for name in ("documents", "tokens", "segments", "passages", "deleted", "bytes", "generation"):
        total[name] = sum(each[name] for each in infos)
    truncated = [each["truncated"] for each in infos]
    total["truncated"] = None if None in truncated else sum(truncated)
    return total


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
