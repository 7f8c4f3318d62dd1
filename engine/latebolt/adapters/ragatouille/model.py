"""`RAGPretrainedModel`: index, search, rerank and encode with one model, as RAGatouille's users call it.

Source of the surface: ragatouille/RAGPretrainedModel.py and ragatouille/models/colbert.py of 0.0.9.post2.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from latebolt.adapters.ragatouille.memory import EncodedDocuments, Result
from latebolt.adapters.ragatouille.splitting import Preprocessor, Splitter, chunks_of, sentence_splitter
from latebolt.adapters.stanford import folders
from latebolt.adapters.stanford.checkpoint import gpu_or_cpu
from latebolt.adapters.stanford.folders import Overwrite
from latebolt.adapters.stanford.infra import ColBERTConfig, index_folder
from latebolt.checks import check_k, passage_text
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.hits import Hit
from latebolt.index.filters.tree import any_of
from latebolt.index.index import Index

if TYPE_CHECKING:
    from latebolt.adapters.ragatouille.langchain import (
        RAGatouilleLangChainCompressor,
        RAGatouilleLangChainRetriever,
    )

logger = logging.getLogger(__name__)

Metadata = Mapping[str, Any] | None
# Results of one query, or a list of them for several.
Results = list[Result] | list[list[Result]]

_ID, _METADATA = "document_id", "document_metadata"
_FEW_PASSAGES = 10_000  # below, an index has 4 bits a dimension, as RAGatouille's has; else 2


class RAGPretrainedModel:
    """A model with at most one open index. Made by `from_pretrained` or `from_index`."""

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.encoder, self.model_name = encoder, encoder.model
        self.index_name: str | None = None
        self._folder = folder  # holds the indexes
        self._index: Index | None = None
        self._encoded = EncodedDocuments()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | Encoder,
        n_gpu: int = -1,
        verbose: int = 1,
        index_root: str | None = None,
    ) -> RAGPretrainedModel:
        """Load a model.

        Args:
            pretrained_model_name_or_path: "starter", an exported folder, a hub id, or an `Encoder`.
            n_gpu: 0 for the CPU; else the GPU where the installed runtime has one.
            verbose: accepted; nothing is printed.
            index_root: indexes go to index_root/colbert/indexes; ".ragatouille/" by default.
        Raises:
            ModelError: there is no such model.
        """
        encoder = pretrained_model_name_or_path
        if not isinstance(encoder, Encoder):
            encoder = Encoder.load(encoder, device="cpu" if n_gpu == 0 else gpu_or_cpu())
        root = ".ragatouille/" if index_root is None else index_root
        return cls(encoder, Path(root, "colbert", "indexes"))

    @classmethod
    def from_index(cls, index_path: str | Path, n_gpu: int = -1, verbose: int = 1) -> RAGPretrainedModel:
        """Open an index, and load the model it was made with.

        Raises:
            IndexNotFound: there is no finished index. Is a FileNotFoundError.
        """
        path = Path(index_path)
        config = ColBERTConfig.load_from_index(path)
        with Index.open(path, device="cpu" if n_gpu == 0 else gpu_or_cpu()) as index:
            encoder = index.encoder
        made = cls(encoder.with_lengths(document=config.doc_maxlen), path.parent)
        made._open(path.name)
        return made

    # The index

    def index(
        self,
        collection: Sequence[str],
        document_ids: Sequence[str] | None = None,
        document_metadatas: Sequence[Metadata] | None = None,
        index_name: str | None = None,
        overwrite_index: Overwrite = True,
        max_document_length: int = 256,
        split_documents: bool = True,
        document_splitter_fn: Splitter | None = sentence_splitter,
        preprocessing_fn: Preprocessor | Sequence[Preprocessor] | None = None,
        bsize: int = 32,
        use_faiss: bool = False,
    ) -> str:
        """Index documents, in one commit up to 131,072 passages.

        Args:
            collection: the documents.
            document_ids: one str a document, all different; random ones by default.
            document_metadatas: one dict of JSON values (or None) a document; they come back with results.
            index_name: a folder below the indexes; the model's name and "new_index" by default.
            overwrite_index: see `Indexer.index`; True deletes an index of that name first.
            max_document_length: tokens of a passage, the model's markers included; at most the model's own.
            split_documents: cut longer documents into passages; else their beginning is indexed.
            document_splitter_fn: called with (documents, ids, chunk_size=max_document_length), gives a list
                of {"document_id", "content"}; None is as split_documents=False.
            preprocessing_fn: one or several, called with (passages, ids), give passages.
        Returns:
            Path of the index.
        Raises:
            InvalidInput: ids or metadata do not fit. Is a ValueError.
            IndexThere: overwrite_index is False and there is an index.
        """
        name = self._default_name() if index_name is None else index_name
        ids, metadata = _check_documents(collection, document_ids, document_metadatas)
        length = min(max_document_length, self.encoder.contract.max_tokens)
        encoder = self.encoder.with_lengths(document=length)
        splitter = self._splitter(encoder, document_splitter_fn if split_documents else None)
        chunks = chunks_of(collection, ids, splitter, preprocessing_fn, max_document_length)
        config = ColBERTConfig(
            checkpoint=encoder.model,
            dim=encoder.dim,
            query_maxlen=encoder.contract.query.max_tokens,
            doc_maxlen=length,
            nbits=4 if len(chunks) < _FEW_PASSAGES else 2,
            experiment="colbert",
            index_name=name,
        )
        path = index_folder(str(self._folder), name)
        self._close()
        with folders.begun(path, encoder, config, overwrite_index) as (index, finished):
            if not (overwrite_index == "reuse" and finished):
                done = folders.read_next_pid(path) if finished else len(index)
                notes = [_note(chunk[_ID], metadata) for chunk in chunks]
                texts = [chunk["content"] for chunk in chunks]
                if finished:  # before the passages, so that no pid is given twice
                    folders.write_metadata(path, config, max(len(chunks), done))
                folders.add_passages(index, texts[done:], done, config, notes[done:], sys.stderr.isatty())
                folders.write_metadata(path, config, max(len(chunks), done))
        self._open(name)
        return path

    def add_to_index(
        self,
        new_collection: Sequence[str],
        new_document_ids: Sequence[str] | None = None,
        new_document_metadatas: Sequence[Metadata] | None = None,
        index_name: str | None = None,
        split_documents: bool = True,
        document_splitter_fn: Splitter | None = sentence_splitter,
        preprocessing_fn: Preprocessor | Sequence[Preprocessor] | None = None,
        bsize: int = 32,
        use_faiss: bool = False,
    ) -> None:
        """Add documents to an index; see `index`. A document whose id is there already stays as it is.

        Args:
            index_name: the open index by default.
        Raises:
            InvalidInput: ids or metadata do not fit, or there is no open index.
            IndexNotFound: there is no index of that name.
            IndexLocked: another process is writing to it.
        """
        ids, metadata = _check_documents(new_collection, new_document_ids, new_document_metadatas)
        index = self._open(index_name)
        encoder = index.encoder
        splitter = self._splitter(encoder, document_splitter_fn if split_documents else None)
        length = encoder.contract.document.max_tokens
        chunks = chunks_of(new_collection, ids, splitter, preprocessing_fn, length)
        there = {_id_of(entry) for entry in index.documents(any_of(_ID, ids))}
        if there:
            logger.warning("%s: %d of the documents are there already and stay.", index.path, len(there))
        new = [chunk for chunk in chunks if chunk[_ID] not in there]
        path, texts = str(index.path), [chunk["content"] for chunk in new]
        config, first = ColBERTConfig.load_from_index(path), folders.read_next_pid(path)
        # Before the passages: should this end between the two, a pid is skipped and none is given twice.
        folders.write_metadata(path, config, first + len(new))
        notes = [_note(chunk[_ID], metadata) for chunk in new]
        folders.add_passages(index, texts, first, config, notes, sys.stderr.isatty())

    def delete_from_index(self, document_ids: str | Sequence[str], index_name: str | None = None) -> None:
        """Delete documents, all passages of each. Ids that are not there are ignored.

        Raises:
            InvalidInput: there is no open index.
            IndexNotFound: there is no index of that name.
            IndexLocked: another process is writing to it.
        """
        index = self._open(index_name)
        names = [document_ids] if isinstance(document_ids, str) else list(document_ids)
        index.delete([entry.id for entry in index.documents(any_of(_ID, names))])

    def search(
        self,
        query: str | Sequence[str],
        index_name: str | None = None,
        k: int = 10,
        force_fast: bool = False,
        zero_index_ranks: bool = False,
        doc_ids: Sequence[str] | None = None,
    ) -> Results:
        """The best passages for a query, or for each of several.

        Args:
            query: a str, or a list of them. Long ones are cut only at the model's limit.
            index_name: the open index by default.
            k: results wanted; fewer come back when fewer qualify.
            zero_index_ranks: ranks begin at 0 instead of 1.
            doc_ids: only passages of these documents.
        Returns:
            A list of {"content", "score", "rank", "document_id", "passage_id"}, with "document_metadata"
            where metadata were indexed; a list of such lists for several queries.
        Raises:
            InvalidInput: there is no open index, or k is below 1.
            IndexNotFound: there is no index of that name.
        """
        index = self._open(index_name)
        where = None if doc_ids is None else any_of(_ID, doc_ids)
        vectors = self.encoder.encode_queries(_queries(query), full_length=True)
        found = index.search_vectors_many(list(vectors), check_k(k), where)
        first = 0 if zero_index_ranks else 1
        return _one_or_all([[_result(hit, rank) for rank, hit in enumerate(hits, first)] for hits in found])

    # Without an index

    def rerank(
        self,
        query: str | Sequence[str],
        documents: Sequence[str | Mapping[str, Any]],
        k: int = 10,
        zero_index_ranks: bool = False,
        bsize: int | Literal["auto"] = "auto",
    ) -> Results:
        """The best of some documents for a query, or for each of several.

        Args:
            query: a str, or a list of them.
            documents: what to rank, each up to the model's limit: texts, or dicts with a "content" or "text",
                as `search` gives them.
            k: results wanted; all where there are fewer documents.
            zero_index_ranks: ranks begin at 0 instead of 1.
        Returns:
            A list of {"content", "score", "rank", "result_index"}; a list of such lists for several queries.
        Raises:
            InvalidInput: no list of str, or k is below 1.
        """
        held = EncodedDocuments()
        if isinstance(documents, str | bytes | Mapping):
            raise InvalidInput(f"documents should be a list, got one {type(documents).__name__}.")
        texts = [passage_text(document, f"documents[{i}]") for i, document in enumerate(documents)]
        vectors = self.encoder.encode_documents(texts, max_length=self.encoder.contract.max_tokens)
        held.add(texts, vectors, None)
        return self._search_held(held, query, k, zero_index_ranks)

    def encode(
        self,
        documents: Sequence[str],
        bsize: int | Literal["auto"] = "auto",
        document_metadatas: Sequence[Metadata] | None = None,
        verbose: bool = True,
        max_document_length: int | Literal["auto"] = "auto",
    ) -> None:
        """Encode documents and keep them in memory, behind those kept before.

        Args:
            documents: a list of str.
            document_metadatas: one dict (or None) a document; they come back with results.
            verbose: show a progress bar on a terminal.
            max_document_length: tokens of a document; the model's limit for "auto" or more.
        Raises:
            InvalidInput: no list of str, or not one dict a document.
        """
        limit = self.encoder.contract.max_tokens
        length = limit if max_document_length == "auto" else min(max_document_length, limit)
        vectors = self.encoder.encode_documents(documents, verbose and sys.stderr.isatty(), max_length=length)
        self._encoded.add(documents, vectors, document_metadatas)

    def search_encoded_docs(self, query: str | Sequence[str], k: int = 10, bsize: int = 32) -> Results:
        """The best of the documents in memory for a query, or for each of several.

        Returns:
            As `rerank`, with "document_metadata" (None where a document has none) once any were given.
        Raises:
            InvalidInput: nothing was encoded, or k is below 1.
        """
        if not len(self._encoded):
            raise InvalidInput("no documents are in memory. Call encode(documents) first.")
        return self._search_held(self._encoded, query, k, False)

    def clear_encoded_docs(self, force: bool = False) -> None:
        """Forget the documents in memory, at once.

        Args:
            force: accepted; there is no time to wait for.
        """
        self._encoded = EncodedDocuments()

    # LangChain

    def as_langchain_retriever(self, **kwargs: Any) -> RAGatouilleLangChainRetriever:
        """A retriever over the open index.

        Args:
            kwargs: for `search`, e.g. k=3.
        Raises:
            RuntimeUnavailable: LangChain is not installed.
        """
        from latebolt.adapters.ragatouille.langchain import RAGatouilleLangChainRetriever

        return RAGatouilleLangChainRetriever(model=self, kwargs=kwargs)

    def as_langchain_document_compressor(self, k: int = 5, **kwargs: Any) -> RAGatouilleLangChainCompressor:
        """A document compressor that keeps the best k.

        Args:
            kwargs: for `rerank`.
        Raises:
            RuntimeUnavailable: LangChain is not installed.
        """
        from latebolt.adapters.ragatouille.langchain import RAGatouilleLangChainCompressor

        return RAGatouilleLangChainCompressor(model=self, k=k, kwargs=kwargs)

    def _search_held(
        self, held: EncodedDocuments, query: str | Sequence[str], k: int, zero_index_ranks: bool
    ) -> Results:
        check_k(k)
        vectors = self.encoder.encode_queries(_queries(query), full_length=True)
        return _one_or_all([held.search(matrix, k, zero_index_ranks) for matrix in vectors])

    def _default_name(self) -> str:
        model = self.model_name
        return f"{Path(model).name if Path(model).is_absolute() else model}new_index"

    @staticmethod
    def _splitter(encoder: Encoder, asked: Splitter | None) -> Splitter | None:
        """What was asked for; the default one with the model's tokens, as many as it takes."""
        if asked is not sentence_splitter:
            return asked

        @functools.wraps(sentence_splitter)
        def split(documents: list[str], ids: list[str], chunk_size: int) -> list[dict[str, str]]:
            return sentence_splitter(documents, ids, encoder.document_room, encoder=encoder)

        return split

    def _open(self, name: str | None) -> Index:
        """The index of that name, or the open one; it is the open one from then on."""
        if name is None or (name == self.index_name and self._index is not None):
            if self._index is None:
                raise InvalidInput("there is no open index. Call index(...), or give index_name.")
            return self._index
        path = index_folder(str(self._folder), name)
        config = ColBERTConfig.load_from_index(path)
        index = Index.open(path, self.encoder.with_lengths(document=config.doc_maxlen))
        self._close()
        self._index, self.index_name = index, name
        return index

    def _close(self) -> None:
        if self._index is not None:
            self._index.close()
        self._index = self.index_name = None


def _queries(query: str | Sequence[str]) -> list[str]:
    return [query] if isinstance(query, str) else list(query)


def _one_or_all(results: list[list[Result]]) -> Results:
    """The results of the only query, or all of them, as RAGatouille gives them."""
    return results[0] if len(results) == 1 else results


def _id_of(found: Any) -> str:
    """The document that a passage belongs to; itself in an index that the Stanford adapter made."""
    return str((found.metadata or {}).get(_ID, found.id))


def _note(document_id: str, metadata: Mapping[str, Metadata] | None) -> dict[str, Any]:
    """What a passage carries in the index."""
    note: dict[str, Any] = {_ID: document_id}
    if metadata is not None and document_id in metadata:
        note[_METADATA] = metadata[document_id]
    return note


def _result(hit: Hit, rank: int) -> Result:
    result: Result = {
        "content": hit.text,
        "score": hit.score,
        "rank": rank,
        "document_id": _id_of(hit),
        "passage_id": int(hit.id),
    }
    if _METADATA in hit.metadata:
        result["document_metadata"] = hit.metadata[_METADATA]
    return result


def _check_documents(
    collection: Sequence[str], ids: Sequence[str] | None, metadata: Sequence[Metadata] | None
) -> tuple[list[str], dict[str, Metadata] | None]:
    """(ids, metadata by id).

    Raises:
        InvalidInput: not one of each a document, an id that is no str, empty or not the only one.
    """
    if isinstance(collection, str | bytes):
        raise InvalidInput(f"collection should be a list of str, got one {type(collection).__name__}.")
    if ids is None:
        ids = [str(uuid4()) for _ in collection]
    if len(ids) != len(collection):
        raise InvalidInput(f"document_ids must be the same length as collection ({len(collection)}).")
    for position, id in enumerate(ids):
        if not isinstance(id, str):
            raise InvalidInput(f"document_ids[{position}] should be str, got {type(id).__name__}.")
        if not id.strip():
            raise InvalidInput(f"document_ids must not contain empty strings, [{position}] is one.")
    if len(set(ids)) != len(ids):
        raise InvalidInput("document_ids must be unique.")
    if metadata is not None and len(metadata) != len(collection):
        raise InvalidInput(f"document_metadatas must be the same length as collection ({len(collection)}).")
    return list(ids), None if metadata is None else dict(zip(ids, metadata, strict=True))
