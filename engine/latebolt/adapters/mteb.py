"""MTEB: a model that `mteb.evaluate` takes, so that its tasks measure us as other late-interaction models.

The surface is the `SearchProtocol` of mteb 2.26: `index`, `search`, `mteb_model_meta`. mteb itself brings
torch; the model that is measured runs without.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latebolt.adapters.opened import encoder_of
from latebolt.adapters.settings import refuse_unknown
from latebolt.arrays import Float32, Int64
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import check_pooling
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.index.documents.pooled import pooling_settings
from latebolt.index.filters.tree import ID, any_of
from latebolt.index.index import Index
from latebolt.index.search.fusion import Mode, check_mode
from latebolt.progress import progress_bar
from latebolt.scoring import maxsim
from latebolt.values import TokenVectors

try:
    from mteb._create_dataloaders import create_dataloader  # what mteb's own models read texts with
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise RuntimeUnavailable('mteb is not installed. Run "pip install mteb".') from error


_CHUNK = 1024  # documents whose vectors are in memory at a time


class LateboltModel:
    """A late-interaction model for `mteb.evaluate(model, tasks)`.

    Args:
        model: an `Encoder`, or the name of a model.
        bits: keep the corpus in an index of so many bits a dimension, see `Index.create`, and measure its
            search. None scores every document by float32 vectors, 1024 documents at a time.
        exhaustive, mode: of the index's search, see `Index.search`.
        pool_factor, max_vectors: of documents, see `Encoder.encode_documents`; with bits of the index.
        name: what the results are filed under, "organization/model"; made of the model's name by default.
    Raises:
        InvalidInput: exhaustive or mode without bits.
    """

    def __init__(
        self,
        model: Encoder | str | Path = "starter",
        *,
        bits: int | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
        name: str | None = None,
        pool_factor: int = 1,
        max_vectors: int | None = None,
    ) -> None:
        check_mode(mode)
        if bits is None and (exhaustive or mode != "late"):
            raise InvalidInput("exhaustive and mode are those of an index. Give bits too, e.g. bits=2.")
        self.encoder, self.bits, self.exhaustive, self.mode = encoder_of(model), bits, exhaustive, mode
        self.pooling = check_pooling(pool_factor, max_vectors, self.encoder.least_vectors)
        self._name = name or _organised(self.encoder.model)
        self._corpus: dict[str, Any] | None = None
        self._index: Index | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # goes with the model

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb records with the results; the settings are the name of the experiment."""
        settings = {"precision": self.encoder.precision, "dim": self.encoder.dim}
        if self.bits is not None:
            settings |= {"bits": self.bits, "mode": self.mode, "exhaustive": self.exhaustive}
        settings |= pooling_settings(self.pooling)
        return ModelMeta.create_empty(
            overwrites={
                "name": self._name,
                "revision": "-".join([self.encoder.fingerprint, *self.encoder.contract.beside_print()]),
                "embed_dim": self.encoder.dim,
                "max_tokens": self.encoder.contract.document.max_tokens,
                "framework": ["ONNX"],
                "model_type": ["late-interaction"],
                "similarity_fn_name": ScoringFunction.MAX_SIM,
                "use_instructions": False,
                "experiment_kwargs": settings,
            }
        )

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None = None,
    ) -> None:
        """Keep a corpus; with bits, encode it into an index in a temporary folder.

        Args:
            corpus: a `datasets.Dataset` with "id", "text" and perhaps "title".
            encode_kwargs: batch_size and show_progress_bar.
        """
        self._index = None
        self._corpus = {"dataset": corpus, "task_metadata": task_metadata, "num_proc": num_proc}
        if self.bits is None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="latebolt-mteb-")
        self._index = Index.create(
            Path(self._folder.name) / "index",
            self.encoder,
            bits=self.bits,
            pool_factor=self.pooling.factor,
            max_vectors=self.pooling.most,
        )
        rows, again = itertools.tee(_rows(PromptType.document, encode_kwargs, **self._corpus))
        self._index.add(
            (text for _, text in rows),
            ids=(name for name, _ in again),
            show_progress=bool(encode_kwargs.get("show_progress_bar")),
        )

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query.

        Args:
            queries: a `datasets.Dataset` with "id" and "text".
            top_k: documents a query.
            encode_kwargs: batch_size and show_progress_bar.
            top_ranked: of a reranking task: the documents that each query is scored with.
        Returns:
            scores[query id][document id].
        Raises:
            InvalidInput: there is no corpus yet, or a document of top_ranked is not in it.
        """
        if self._corpus is None:
            raise InvalidInput("there is nothing to search. Call index(corpus, ...) first.")
        texts = dict(_rows(PromptType.query, encode_kwargs, queries, task_metadata, num_proc))
        if top_ranked is not None:
            top_ranked = {query: list(dict.fromkeys(top_ranked.get(query, ()))) for query in texts}
        if self._index is not None:
            if top_ranked is not None:
                _check_known(top_ranked, set(self._corpus["dataset"]["id"]))
            return self._search_index(self._index, texts, top_k, top_ranked)
        return self._score_all(texts, top_k, encode_kwargs, top_ranked)

    def _search_index(
        self, index: Index, texts: dict[str, str], k: int, among: Mapping[str, Sequence[str]] | None
    ) -> dict[str, dict[str, float]]:
        if among is None:
            found = index.search_many(list(texts.values()), k, None, self.exhaustive, self.mode)
        else:
            found = [
                index.search(text, k, any_of(ID, among[query]), True, self.mode)
                for query, text in texts.items()
            ]
        return {query: {hit.id: hit.score for hit in hits} for query, hits in zip(texts, found, strict=True)}

    def _score_all(
        self,
        texts: dict[str, str],
        k: int,
        encode_kwargs: Mapping[str, Any],
        among: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, dict[str, float]]:
        assert self._corpus is not None
        vectors = self.encoder.encode_queries(list(texts.values()))
        asking: dict[str, list[int]] = {}  # the queries of a document
        for n, query in enumerate(texts):
            for document in among[query] if among is not None else ():
                asking.setdefault(document, []).append(n)
        best = [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in texts]
        names: list[str] = []
        rows = _rows(PromptType.document, encode_kwargs, **self._corpus)
        if among is not None:
            rows = ((name, text) for name, text in rows if name in asking)
        total = len(self._corpus["dataset"]) if among is None else len(asking)
        with progress_bar(total, "search", "text", bool(encode_kwargs.get("show_progress_bar"))) as bar:
            while chunk := list(itertools.islice(rows, _CHUNK)):
                documents = self.encoder.encode_documents(
                    [text for _, text in chunk],
                    pool_factor=self.pooling.factor,
                    max_vectors=self.pooling.most,
                )
                for n, candidates in _candidates(chunk, asking, len(texts), among is None):
                    some = documents if candidates is None else _chosen(documents, candidates)
                    positions = np.arange(len(chunk)) if candidates is None else candidates
                    best[n] = _merged(best[n], maxsim(vectors[n], some), positions + len(names), k)
                names += [name for name, _ in chunk]
                bar.step(len(chunk), documents.n_tokens)
        if among is not None:
            _check_known(among, set(names))
        return {
            query: {names[i]: float(score) for score, i in zip(*best[n], strict=True)}
            for n, query in enumerate(texts)
        }


def _rows(
    kind: PromptType, encode_kwargs: Mapping[str, Any], dataset: Any, task_metadata: Any, num_proc: int | None
) -> Iterator[tuple[str, str]]:
    """Ids and texts of a corpus or of queries, as mteb joins titles, instructions and conversations."""
    refuse_unknown(encode_kwargs, ("batch_size", "show_progress_bar"), "LateboltModel's encode_kwargs")
    batches = create_dataloader(
        dataset,
        task_metadata=task_metadata,
        prompt_type=kind,
        batch_size=encode_kwargs.get("batch_size", 32),
        num_proc=num_proc,
    )
    for batch in batches:
        yield from zip(batch["id"], batch["text"], strict=True)


def _check_known(among: Mapping[str, Sequence[str]], names: set[str]) -> None:
    for query, documents in among.items():
        for document in documents:
            if document not in names:
                raise InvalidInput(
                    f"top_ranked[{query!r}] names document {document!r}, which the corpus does not have."
                )


def _candidates(
    chunk: list[tuple[str, str]], asking: dict[str, list[int]], n_queries: int, all_of_them: bool
) -> Iterator[tuple[int, Int64 | None]]:
    """For each query that has some, its documents of a chunk; None for all."""
    if all_of_them:
        yield from ((n, None) for n in range(n_queries))
        return
    rows: dict[int, list[int]] = {}
    for row, (name, _) in enumerate(chunk):
        for n in asking[name]:
            rows.setdefault(n, []).append(row)
    yield from ((n, np.asarray(found, np.int64)) for n, found in rows.items())


def _chosen(documents: TokenVectors, rows: Int64) -> TokenVectors:
    return TokenVectors.from_matrices([documents[int(row)] for row in rows], documents.dim)


def _merged(best: tuple[Float32, Int64], scores: Float32, positions: Int64, k: int) -> tuple[Float32, Int64]:
    """The k best of two lists, best first, ties by position."""
    both, places = np.concatenate([best[0], scores]), np.concatenate([best[1], positions])
    order = np.argsort(-both, kind="stable")[:k]
    return both[order], places[order]


def _organised(model: str) -> str:
    return model if model.count("/") == 1 and not model.startswith("/") else f"latebolt/{Path(model).name}"
