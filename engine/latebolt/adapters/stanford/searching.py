"""`Searcher`: passages of an index for queries, as pids, ranks and scores.

Source of the surface: colbert/searcher.py and colbert/search/index_storage.py of colbert-ai 0.2.22.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from latebolt.adapters.stanford.checkpoint import Checkpoint, Tensors, as_tensors
from latebolt.adapters.stanford.data import Collection, Queries, Ranking
from latebolt.adapters.stanford.folders import read_next_pid
from latebolt.adapters.stanford.infra import BadArgument, ColBERTConfig, Run, index_folder
from latebolt.arrays import Float32
from latebolt.checks import check_k
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.index.filters.tree import ID, any_of
from latebolt.index.index import Index
from latebolt.scoring import maxsim
from latebolt.values import TokenVectors

Scored = tuple[int, float]
Found = tuple[list[int], list[int], list[float]]
# Takes pids, int32 [n] (a torch tensor with tensors="torch"), and gives those that may be found.
Filter = Callable[[Any], Any]

_CANDIDATES = 256  # passages a filter is asked about first
_MORE = 8  # times as many, while fewer than k pass


class UnknownPid(InvalidInput, IndexError):
    """A pid that no passage of the index ever had, an IndexError in the Stanford library."""


class Searcher:
    """Searches one index.

    Args:
        index: its name below the run's indexes.
        checkpoint: the model; the one the index was made with by default.
        collection: the passages, for `searcher.collection`; by default they are read out of the index.
        config: `query_maxlen`. Where the index is (`root`, `experiment`, `index_root`) is the run's.
        index_root: the folder that holds the index.
        verbose: accepted; nothing is printed.
        tensors: "numpy" or "torch", what `encode` gives and a filter gets.
    Raises:
        IndexNotFound: there is no finished index of that name. Is a FileNotFoundError.
        ModelMismatch: the checkpoint is not the one the index was made with.
    """

    def __init__(
        self,
        index: str,
        checkpoint: str | Encoder | None = None,
        collection: str | Sequence[str] | Collection | None = None,
        config: ColBERTConfig | None = None,
        index_root: str | None = None,
        verbose: int | bool = 3,
        *,
        tensors: Tensors = "numpy",
    ) -> None:
        self.verbose = verbose
        initial = ColBERTConfig.from_existing(config, Run().config)
        self.index = index_folder(index_root or initial.index_root_, index)
        self.index_config = ColBERTConfig.load_from_index(self.index)
        kept = {"query_maxlen", "doc_maxlen", "dim"}
        asked = ColBERTConfig(**{name: getattr(self.index_config, name) for name in kept})
        asked = ColBERTConfig.from_existing(asked, config)
        self.checkpoint = Checkpoint(checkpoint or _model_of(self.index_config), asked, tensors=tensors)
        self.config = ColBERTConfig.from_existing(self.checkpoint.colbert_config, self.index_config, initial)
        self.configure(checkpoint=self.checkpoint.name)
        self._index = Index.open(self.index, self.checkpoint.encoder)
        self._unsaved = Unsaved(read_next_pid(self.index))
        self.collection: Collection | StoredPassages
        if collection is not None:
            self.collection = Collection.cast(collection)
        else:
            self.collection = StoredPassages(self._index, self._unsaved)

    def configure(self, **settings: Any) -> None:
        """Give some settings; of those of a search, `query_maxlen` has an effect.

        Raises:
            InvalidInput: there is no setting of that name.
        """
        self.config.configure_strictly(**settings)
        if "query_maxlen" in settings:
            self.checkpoint.query_tokenizer.query_maxlen = settings["query_maxlen"]

    def encode(self, text: str | list[str], full_length_search: bool = False) -> Any:
        """Token vectors of one query or several: float32 [n, query_maxlen, dim]; see `Checkpoint`."""
        queries = text if isinstance(text, list) else [text]
        return self.checkpoint.queryFromText(queries, full_length_search=full_length_search)

    def search(
        self,
        text: str,
        k: int = 10,
        filter_fn: Filter | None = None,
        full_length_search: bool = False,
        pids: Sequence[int] | None = None,
    ) -> Found:
        """The best passages for a query.

        Args:
            text: the query.
            k: passages wanted; fewer come back when fewer qualify.
            filter_fn: gets pids, int32 [n], and gives those that may be found, as an array, tensor or list.
                It is asked about the best passages first, and about more until k have passed.
            full_length_search: cut the query only at the model's limit.
            pids: score these passages only, all of them exactly. One that was removed is not found.
        Returns:
            (pids, ranks from 1, scores), best first.
        Raises:
            UnknownPid: a pid that no passage ever had. Is an IndexError.
            BadArgument: filter_fn gives something that is no list of pids.
        """
        [matrix] = self._matrices([text], full_length_search)
        return _columns(self._find(matrix, k, filter_fn, pids))

    def search_all(
        self,
        queries: Any,
        k: int = 10,
        filter_fn: Filter | None = None,
        full_length_search: bool = False,
        qid_to_pids: Mapping[Any, Sequence[int] | None] | None = None,
    ) -> Ranking:
        """The best passages for each of several queries.

        Args:
            queries: a dict of texts by qid, the path of a file of them, or Queries.
            qid_to_pids: passages to score for each query, as `pids` of `search`.
        Returns:
            A Ranking of {qid: [(pid, rank, score), ...]}.
        """
        cast = Queries.cast(queries)
        matrices = self._matrices(list(cast.values()), full_length_search)
        if filter_fn is None and qid_to_pids is None:
            found = self._best(matrices, k)
        else:
            chosen = qid_to_pids or {}
            found = [
                self._find(matrix, k, filter_fn, chosen.get(qid))
                for qid, matrix in zip(cast.keys(), matrices, strict=True)
            ]
        data = {
            qid: list(zip(*_columns(each), strict=True)) for qid, each in zip(cast.keys(), found, strict=True)
        }
        made = {"source": "Searcher.search_all", "queries": cast.provenance(), "k": k}
        return Ranking(data=data, provenance=made | {"config": self.config.export()})

    def dense_search(
        self, Q: Any, k: int = 10, filter_fn: Filter | None = None, pids: Sequence[int] | None = None
    ) -> Found:
        """`search` with a query's token vectors.

        Args:
            Q: float32 [1, n_tokens, dim] or [n_tokens, dim], as `encode` gives it.
        """
        matrix = np.asarray(Q, np.float32)
        if matrix.ndim == 3 and len(matrix) == 1:
            matrix = matrix[0]
        if matrix.ndim != 2:
            raise BadArgument(f"Q should be [1, n_tokens, dim], got shape {matrix.shape}.")
        return _columns(self._find(matrix[np.any(matrix != 0, axis=1)], k, filter_fn, pids))

    def _matrices(self, texts: list[str], full_length: bool) -> list[Float32]:
        """Token vectors of each query, without the zeros behind short ones."""
        return list(self.checkpoint.encoder.encode_queries(texts, full_length=full_length))

    def _find(
        self, matrix: Float32, k: int, filter_fn: Filter | None, pids: Sequence[int] | None
    ) -> list[Scored]:
        check_k(k)
        if pids is not None:
            chosen = self._check_pids(pids)
            return self._among(matrix, chosen if filter_fn is None else self._passing(filter_fn, chosen), k)
        if filter_fn is None:
            return self._best([matrix], k)[0]
        wanted = max(_CANDIDATES, k)
        while True:
            [found] = self._best([matrix], wanted)
            allowed = set(self._passing(filter_fn, [pid for pid, _ in found]))
            passed = [each for each in found if each[0] in allowed]
            if len(passed) >= k or len(found) < wanted:
                return passed[:k]
            wanted *= _MORE

    def _best(self, matrices: Sequence[Float32], k: int) -> list[list[Scored]]:
        removed = self._unsaved.removed
        stored = self._index.search_vectors_many(matrices, check_k(k) + len(removed))
        return [
            _best_of(
                [(int(hit.id), hit.score) for hit in hits if int(hit.id) not in removed]
                + self._unsaved.scored(matrix),
                k,
            )
            for matrix, hits in zip(matrices, stored, strict=True)
        ]

    def _among(self, matrix: Float32, pids: Sequence[int], k: int) -> list[Scored]:
        chosen = set(pids) - self._unsaved.removed
        if not chosen:
            return []
        where = any_of(ID, map(str, sorted(chosen)))
        hits = self._index.search_vectors(matrix, len(chosen), where, exhaustive=True)
        added = [each for each in self._unsaved.scored(matrix) if each[0] in chosen]
        return _best_of([(int(hit.id), hit.score) for hit in hits] + added, k)

    def _check_pids(self, pids: Any) -> list[int]:
        chosen = _as_pids(pids, "pids")
        for pid in chosen:
            if not 0 <= pid < self._unsaved.next_pid:
                raise UnknownPid(f"{self.index}: has pids 0..{self._unsaved.next_pid - 1}, got {pid}.")
        return chosen

    def _passing(self, filter_fn: Filter, pids: Sequence[int]) -> list[int]:
        offered = as_tensors(np.array(pids, np.int32), self.checkpoint.tensors)
        return _as_pids(filter_fn(offered), "what filter_fn gives")


class Unsaved:
    """Passages that an IndexUpdater added or removed and has not written yet."""

    def __init__(self, next_pid: int) -> None:
        self.next_pid = next_pid
        self.removed: set[int] = set()
        self.texts: dict[int, str] = {}
        self._vectors: list[Float32] = []

    def add(self, texts: Sequence[str], vectors: TokenVectors) -> list[int]:
        """The pids that these passages get."""
        pids = list(range(self.next_pid, self.next_pid + len(texts)))
        self.texts.update(zip(pids, texts, strict=True))
        self._vectors += list(vectors)
        self.next_pid += len(texts)
        return pids

    def scored(self, matrix: Float32) -> list[Scored]:
        """MaxSim of a query with each passage added."""
        if not self._vectors:
            return []
        scores = maxsim(matrix, TokenVectors.from_matrices(self._vectors))
        pairs = zip(self.texts, scores.tolist(), strict=True)
        return [(pid, score) for pid, score in pairs if pid not in self.removed]

    def taken(self) -> dict[int, tuple[str, Float32]]:
        """Text and vectors by pid of what was added and not removed."""
        pairs = zip(self.texts.items(), self._vectors, strict=True)
        return {pid: (text, vectors) for (pid, text), vectors in pairs if pid not in self.removed}

    def clear(self) -> None:
        """All of it is written."""
        self.removed.clear()
        self.texts.clear()
        self._vectors.clear()


class StoredPassages:
    """The passages of an index by pid, read when they are asked for."""

    def __init__(self, index: Index, unsaved: Unsaved) -> None:
        self._index, self._unsaved = index, unsaved

    def __len__(self) -> int:
        return self._unsaved.next_pid

    def __getitem__(self, pid: int) -> str:
        """The passage.

        Raises:
            IndexError: no passage has that pid.
        """
        if pid in self._unsaved.texts:
            return self._unsaved.texts[pid]
        [entry] = self._index.get([str(pid)])
        if entry is None or entry.text is None:
            raise IndexError(f"{self._index.path}: has no passage {pid}.")
        return entry.text

    def __iter__(self) -> Iterator[str]:
        by_pid = {int(entry.id): entry.text or "" for entry in self._index.documents()} | self._unsaved.texts
        return (by_pid[pid] for pid in sorted(by_pid))


def _model_of(config: ColBERTConfig) -> str:
    if config.checkpoint is None:
        raise BadArgument("the index does not say which model it was made with. Give checkpoint=...")
    return config.checkpoint


def _best_of(found: list[Scored], k: int) -> list[Scored]:
    """The k best, ties by pid."""
    return sorted(found, key=lambda each: (-each[1], each[0]))[:k]


def _columns(found: Sequence[Scored]) -> Found:
    return [pid for pid, _ in found], list(range(1, len(found) + 1)), [score for _, score in found]


def _as_pids(pids: Iterable[Any], what: str) -> list[int]:
    """Whole numbers of any list, array or tensor.

    Raises:
        BadArgument: it is none, or holds something else.
    """
    try:
        values = pids.tolist() if hasattr(pids, "tolist") else list(pids)
        return [operator.index(value) for value in values]
    except TypeError as error:
        raise BadArgument(f"{what} should be pids, whole numbers: {error}.") from error
