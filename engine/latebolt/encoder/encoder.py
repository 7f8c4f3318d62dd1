"""`Encoder`: texts in, token vectors out, with an exported model and no PyTorch.

An encoder is a frozen view of a `Model`: a width, lengths, threads, and who runs the graph. Other widths and
lengths are other views, which cost nothing and share what is loaded.

Every text runs through the graph alone on the CPU. Dynamic int8 quantises a whole tensor, so texts that
shared a run would change each other's vectors; alone, a text's vectors never depend on what else is in
the call, and one text a run is also the fastest shape there. Bulk work keeps K threads busy with
single-threaded runs; a single query gets all threads on one run. On a GPU texts share runs, see
`batch_runner`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from latebolt import threads as pools
from latebolt.arrays import Float32
from latebolt.checks import check_texts, renamed
from latebolt.confidence import Calibration, Calibrations
from latebolt.contract import Contract, Head
from latebolt.devices import CPU, resolve
from latebolt.encoder import truncation
from latebolt.encoder.gpu_runs import GpuRuns
from latebolt.encoder.loading import Loading, begin
from latebolt.encoder.model import Model
from latebolt.encoder.model_folder import ModelFolder
from latebolt.encoder.pooling import Pooling, check_pooling, pool_tokens
from latebolt.encoder.session import Session, why_no_gpu
from latebolt.encoder.tally import Letters, gathered
from latebolt.encoder.text import TextPipeline, TextTokens, TokenIds
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.hits import Hit, Span
from latebolt.progress import progress_bar
from latebolt.scoring import get_ready, rerank
from latebolt.values import TokenVectors

if TYPE_CHECKING:
    from latebolt.encoder.batch_runner import Code, Columns

# Gives the vectors of tokenised texts of a kind, "query" or "document", in order; see `Encoder.run_by`.
Runner = Callable[[list[TokenIds], str], list[Float32]]

logger = logging.getLogger(__name__)

# From so many texts on, single-threaded runs side by side beat one multi-threaded run after another.
_BULK_TEXTS = 8
# Texts that are tokenised and sorted by length together for a GPU, and how many such parts are under way: one
# is tokenised while the other runs.
_GPU_TEXTS = 2048
_GPU_PARTS = 2

_Part = TypeVar("_Part")
_Made = TypeVar("_Made")


@dataclass
class _Count:
    """A number that threads add to."""

    value: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _owner: int = field(default_factory=os.getpid, repr=False)

    def add(self, n: int) -> None:
        if self._owner != os.getpid():  # the parent's lock may be held for ever in a forked child
            self._lock, self._owner = threading.Lock(), os.getpid()
        with self._lock:
            self.value += n


@dataclass(frozen=True, eq=False, repr=False)
class Encoder:
    """A late-interaction model: queries and documents to `TokenVectors`. Thread-safe; made by `load`.

    Copies share the loaded model, and `close` ends them all; a pickle loads it again where it is opened.
    """

    _model: Model
    _text: TextPipeline
    _head: Head
    threads: int
    _calibrations: Calibrations | None = None
    _runner: Runner | None = None
    _gpu_runs: GpuRuns = field(default_factory=GpuRuns)
    _truncated: _Count = field(default_factory=_Count, init=False)

    @classmethod
    def load(
        cls,
        model: str | Path = "starter",
        precision: str | None = None,
        dim: int | None = None,
        device: str | Sequence[str] = "cpu",
        threads: int | None = None,
        deterministic: bool = False,
    ) -> Encoder:
        """Load a model.

        Args:
            model: the built-in "starter" (English) or "multilingual", a folder, or a hub id
                `org/name`. The folder was exported, or holds ONNX graphs of token vectors in the layout of
                FastEmbed, PyLate or next-plaid.
            precision: "fp32", "fp16" or "int8"; by default the fastest the model has for the device.
            dim: width of the token vectors, one of the model's heads; the widest by default.
            device: "cpu", "cuda", "cuda:N", or "auto": CUDA where it works, else the CPU (logged). Several
                GPUs, as "cuda:0,cuda:1" or a list, share bulk work; a single text takes the first.
            threads: CPU threads to use; all CPUs of this process by default.
            deterministic: on a GPU every text has a run of its own, so that its vectors keep their bits in
                any company; see `GpuRuns`. On the CPU they always do.
        Raises:
            ModelError: no such model, precision or head, or a damaged file.
            RuntimeUnavailable: no ONNX Runtime, or the device asked for is not there.
        """
        where = resolve(device, why_no_gpu)
        try:
            loaded = cls.of(begin(model, precision, dim, where, threads))
        except RuntimeUnavailable as error:
            if device != "auto" or where == (CPU,):
                raise
            logger.warning('device "auto": %s Using the CPU.', error)
            loaded = cls.of(begin(model, precision, dim, (CPU,), threads))
        return replace(loaded, _gpu_runs=GpuRuns(deterministic=True)) if deterministic else loaded

    @classmethod
    def of(cls, loading: Loading) -> Encoder:
        """The encoder of a model that has begun to load.

        Raises:
            ModelError: its tokenizer is missing, or a file is damaged.
            RuntimeUnavailable: the device it should run on is not there.
        """
        try:
            text = TextPipeline(loading.model.folder.tokenizer(), loading.model.folder.contract)
            get_ready()  # vectors are for scoring
        finally:
            wait([loading.graph])
        loading.graph.result()  # what cannot be loaded is said now
        calibrations = loading.model.folder.calibrations()
        return cls(loading.model, text, loading.head, loading.threads, calibrations)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle says how to load the model again, and never holds its weights or a runner."""
        lengths = self.contract.query.max_tokens, self.contract.document.max_tokens
        settings = self.model, self.precision, self.dim, self.device, self.threads, lengths
        return _loaded, (*settings, self._gpu_runs)

    def __copy__(self) -> Encoder:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoder:
        return replace(self)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warmup(self) -> None:
        """Load what the first query and the first bulk job would wait for."""
        if self._on_cpu:
            self._session(1)
        self.encode_queries(["warm up"])
        self.encode_documents(["warm up"] * _BULK_TEXTS)

    def close(self) -> None:
        """Release the model's memory; this encoder and all that share its model then refuse to encode."""
        self._model.close()

    @property
    def folder(self) -> ModelFolder:
        """Where the model's files are."""
        return self._model.folder

    @property
    def contract(self) -> Contract:
        """What the model promises, with this encoder's lengths."""
        return self._text.contract

    @property
    def precision(self) -> str:
        """Of the graph: "fp32", "fp16" or "int8"."""
        return self._model.precision

    @property
    def dim(self) -> int:
        """Width of the token vectors."""
        return self._head.dim

    @property
    def device(self) -> str:
        """Where the graph runs: "cpu", "cuda", "cuda:N", or several as "cuda:0,cuda:1"."""
        return self._model.device_name

    @property
    def truncated_queries(self) -> int:
        """Queries of this encoder that were cut so far."""
        return self._truncated.value

    @property
    def model(self) -> str:
        """What finds the model again: "starter", an absolute path, or a hub id."""
        return self.folder.name

    @property
    def fingerprint(self) -> str:
        """Equal for encoders whose token vectors may be compared; see `ModelFolder.fingerprint`."""
        return self.folder.fingerprint(self.precision, self.dim)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """What makes confidence of scores by its vectors; None where its folder has nothing of them."""
        return None if self._calibrations is None else self._calibrations.at(self.fingerprint)

    def with_dim(self, dim: int) -> Encoder:
        """The same model at another width; shares tokenizer and loaded graph with this one.

        Raises:
            ModelError: the model has no such head.
            InvalidInput: the graph is run by a runner (`run_by`), whose vectors have another width.
        """
        head = self.folder.contract.head(dim)
        if self._runner is not None and head != self._head:
            raise InvalidInput(
                f"this encoder's texts are run by a runner that gives {self.dim} dimensions, not {head.dim}. "
                "Call with_dim first, and run_by with a runner of that width on what it gives."
            )
        return replace(self, _head=head)

    def with_lengths(self, query: int | None = None, document: int | None = None) -> Encoder:
        """The same model with other lengths; shares tokenizer and loaded graph with this one.

        Vectors compare with those of this encoder, so `fingerprint` is the same and both can use one index.

        Args:
            query: tokens of a query, markers included, to which expansion fills up; as it is for None.
            document: tokens of a document, markers included; as it is for None.
        Raises:
            InvalidInput: more than the model takes, or too few for the markers and one token.
        """
        text = self._text.with_lengths(query, document)
        return self if text is self._text else replace(self, _text=text)

    def with_gpu_runs(
        self, form: str | None = None, captured: bool | None = None, tokens: int | None = None
    ) -> Encoder:
        """The same model with other settings of how texts share runs of a GPU; without effect on the CPU.

        Args:
            form: "padded", "equal" or "ragged"; as it is for None.
            captured: whether single texts of up to 128 tokens replay a CUDA graph, which is recorded at
                once: nothing else of the process should be using the GPU meanwhile. The graph has the
                model's weights once more. Where it cannot be, a warning says why and they run as others; as
                it is for None.
            tokens: of a run at most, padding included; by the device's free memory for None.
        Raises:
            InvalidInput: an unknown form, or tokens below 1.
            ModelError: the model has no graph of that form; its export wrote none.
        """
        old = self._gpu_runs
        runs = replace(
            old,
            form=old.form if form is None else form,
            captured=old.captured if captured is None else captured,
            tokens=tokens,
        )
        self._model.check_form(runs.form)
        made = replace(self, _gpu_runs=runs)
        if made._replays:
            self._model.recordings(self._head)
        return made

    def run_by(self, runner: Runner) -> Encoder:
        """The same encoder, whose texts `runner` takes through the graph, e.g. a queue that several share.

        Args:
            runner: gives float32 [n_kept, dim] for each of the tokenised texts, as `vectors_of` does. Called
                from whichever threads encode.
        """
        return replace(self, _runner=runner)

    def __repr__(self) -> str:
        return (
            f"Encoder({self.model!r}, precision={self.precision!r}, dim={self.dim}, "
            f"device={self.device!r}, threads={self.threads})"
        )

    def encode_queries(self, texts: Sequence[str], full_length: bool = False) -> TokenVectors:
        """Token vectors of queries, in input order.

        Args:
            texts: the queries.
            full_length: lift the contract's length to the model's limit; without it longer queries are cut
                and counted in `truncated_queries`. Expansion fills up to the contract's length either way.
        Returns:
            Token vectors; `truncated` marks queries that were cut, which a warning of the logger "latebolt"
            counts.
        Raises:
            InvalidInput: not a list of str; names the position.
        """
        tokens = self._text.tokenize_queries(check_texts(texts, "queries"), full_length)
        vectors = self._encode(tokens, "query", lambda vectors: vectors, show_progress=False)
        if vectors.n_truncated:
            self._truncated.add(vectors.n_truncated)
            limit = self.contract.max_tokens if full_length else self.contract.query.max_tokens
            truncation.warn(len(tokens), vectors.n_truncated, "query", limit, self._way_out("query", limit))
        return vectors

    def encode_documents(
        self,
        texts: Iterable[str],
        show_progress: bool = False,
        pool_factor: int = 1,
        max_length: int | None = None,
        max_vectors: int | None = None,
    ) -> TokenVectors:
        """Token vectors of documents, in input order.

        Args:
            texts: documents, any iterable; an empty one keeps the vectors of its markers.
            show_progress: a bar on stderr.
            pool_factor: keep about 1 / pool_factor of the vectors, by hierarchical clustering, of a document
                of more than 2,048 by neighbouring parts of so many.
            max_length: tokens of a document, markers included; the contract's by default.
            max_vectors: keep no more than so many of a document, markers included, by the same clustering.
        Returns:
            Token vectors; `truncated` marks documents that were cut, which a warning of the logger "latebolt"
            counts.
        Raises:
            InvalidInput: not a list of str, or pool_factor, max_length or max_vectors out of range.
        """
        pooling = check_pooling(pool_factor, max_vectors, self.least_vectors)
        if not isinstance(texts, str | bytes | Sequence):
            texts = list(texts)
        texts = check_texts(texts, "documents")

        def finish(vectors: Float32) -> Float32:
            return self._pool(vectors, pooling)

        if self.shares_runs and len(texts) > _GPU_TEXTS:
            vectors = self._encode_ahead(texts, max_length, finish, show_progress)
        else:
            tokens = self._text.tokenize(texts, "document", max_length)
            vectors = self._encode(tokens, "document", finish, show_progress)
        limit = self._text.limit("document", max_length)
        truncation.warn(
            len(vectors), vectors.n_truncated, "document", limit, self._way_out("document", limit)
        )
        return vectors

    def code_documents(self, texts: Sequence[str], code: Code) -> tuple[list[Columns], list[bool]]:
        """What `code` makes of documents' token vectors where they lie, which come no further.

        Only of an encoder that `codes_on_device`.

        Args:
            code: see `batch_runner.Code`; called by the devices' threads.
        Returns:
            Columns of each document, in input order, and whether its end was not read.
        Raises:
            See `encode_documents`.
        """

        def coded(part: Sequence[str]) -> list[tuple[Columns, bool]]:
            tokens = self._text.tokenize(part, "document")
            windows = [window for each in tokens for window in each.windows()]
            columns = self._model.batches.coded(windows, self._head, self._gpu_runs, code)
            return list(zip(_joined(tokens, columns), [each.truncated for each in tokens], strict=True))

        made = [each for part in self._ahead(_parts(check_texts(texts, "documents")), coded) for each in part]
        found, truncated = [columns for columns, _ in made], [cut for _, cut in made]
        limit = self._text.limit("document", None)
        truncation.warn(len(made), sum(truncated), "document", limit, self._way_out("document", limit))
        return found, truncated

    def encode_parts(self, texts: Sequence[str], parts: Sequence[Sequence[Span]]) -> TokenVectors:
        """Token vectors of parts of documents, each part encoded with the text around it in view.

        A document is encoded once, and its parts are cut out of its vectors ("late chunking"). A part has the
        vectors of the tokens that begin in it, and of the document's markers and prompt, as if it had been
        encoded by itself; so a part that is the whole document has the vectors of `encode_documents`, where
        that does not read it in windows.

        Source: Günther et al., "Late chunking: contextual chunk embeddings using long-context embedding
        models", 2024, which then averages each part's vectors.

        Args:
            texts: documents, no longer than the model reads at once (`document_room`).
            parts: of each, the characters [start, stop) of its parts.
        Returns:
            Token vectors of every part of the first document, then of the next; `truncated` marks parts whose
            end was not read, see `encode_documents`.
        Raises:
            InvalidInput: texts is no list of str, or parts has not one list for each.
        """
        texts = check_texts(texts, "documents")
        if len(parts) != len(texts):
            raise InvalidInput(
                f"parts should have one list a document, {len(texts)} in all, got {len(parts)}."
            )
        tokens = self._text.tokenize(texts, "document", at_once=True)
        whole = self._encode(tokens, "document", lambda vectors: vectors, show_progress=False)
        matrices: list[Float32] = []
        truncated: list[bool] = []
        for text, ids, vectors, spans in zip(texts, tokens, whole, parts, strict=True):
            for part in self._text.part_rows(text, ids, spans):
                matrices.append(vectors[part.rows])
                truncated.append(part.truncated)
        found = TokenVectors.from_matrices(matrices, self.dim, truncated)
        limit = min(self.contract.document.max_tokens, self.contract.max_tokens)
        way_out = "Late chunking reads no more at once: give texts in windows of so many, as Index.add does."
        truncation.warn(len(found), found.n_truncated, "document", limit, way_out)
        return found

    def _way_out(self, kind: str, limit: int) -> str:
        """What a caller can do where texts of a kind are longer than so many tokens."""
        rules = self.contract.query if kind == "query" else self.contract.document
        most = self.contract.most_tokens(rules)
        longer = f"with_lengths({kind}=...) of the encoder reads up to {most}" if limit < most else ""
        if kind == "query":
            return f"{longer or 'Ask in fewer words'}."
        passages = "passage_tokens=... of Index.create cuts long texts into passages"
        return f"{longer}; {passages}." if longer else f"It takes no more; {passages}."

    def pooled(
        self, documents: TokenVectors, pool_factor: int = 1, max_vectors: int | None = None
    ) -> TokenVectors:
        """What `encode_documents` with these settings gives, from what it gives without, to the bit.

        Raises:
            InvalidInput: pool_factor or max_vectors is out of range.
        """
        pooling = check_pooling(pool_factor, max_vectors, self.least_vectors)
        if pooling == Pooling():
            return documents
        matrices = [self._pool(vectors, pooling) for vectors in documents]
        return TokenVectors.from_matrices(matrices, documents.dim, documents.truncated)

    @property
    def least_vectors(self) -> int:
        """The fewest vectors that pooling leaves of a document: those of its markers, and one."""
        return self._protected + 1

    def _pool(self, vectors: Float32, pooling: Pooling) -> Float32:
        return pool_tokens(vectors, pooling.factor, self._protected, pooling.most)

    @property
    def _protected(self) -> int:
        """Vectors of markers at a document's beginning, which pooling keeps."""
        return len(self.contract.frame.prefix) + (self.contract.document.marker is not None)

    def iter_documents(
        self,
        texts: Iterable[str],
        chunk: int = 1024,
        pool_factor: int = 1,
        max_length: int | None = None,
        max_vectors: int | None = None,
    ) -> Iterator[TokenVectors]:
        """`encode_documents` in chunks, for a corpus larger than memory.

        Args:
            texts: documents, read as they are needed.
            chunk: documents a piece; sorting by length and the threads work within one. On a GPU the next
                one is encoded while the caller works on what it has.
            pool_factor, max_length, max_vectors: see `encode_documents`.
        Yields:
            The next `chunk` documents' token vectors, in input order. What was cut is told after the last.
        """
        if not isinstance(chunk, int) or chunk < 1:
            raise InvalidInput(f"chunk should be an int of at least 1, got {chunk!r}.")
        if isinstance(texts, str | bytes):
            raise InvalidInput(f"texts should be an iterable of str, got one {type(texts).__name__}.")
        remaining = iter(texts)
        parts = iter(lambda: list(itertools.islice(remaining, chunk)), [])
        n_texts = n_truncated = 0

        def encode(part: list[str]) -> TokenVectors:
            with gathered():
                return self.encode_documents(
                    part, pool_factor=pool_factor, max_length=max_length, max_vectors=max_vectors
                )

        with contextlib.closing(self._ahead(parts, encode)) as chunks:
            for vectors in chunks:
                n_texts, n_truncated = n_texts + len(vectors), n_truncated + vectors.n_truncated
                yield vectors
        limit = self._text.limit("document", max_length)
        truncation.warn(n_texts, n_truncated, "document", limit, self._way_out("document", limit))

    def rerank(
        self,
        query: str,
        documents: Sequence[str | Mapping[str, Any]],
        k: int | None = None,
        *,
        top_k: int | None = None,
    ) -> list[Hit[int]]:
        """The documents by MaxSim with the query, best first; `Hit.id` is the position in `documents`.

        Args:
            documents: texts, or dicts with a "text" or "content".
            k: hits wanted; None for all.
            top_k: what k was called in earlier versions.

        Raises:
            InvalidInput: an empty query, k below 1, or documents that are not a list of str.
        """
        return rerank(self, query, documents, renamed("k", k, "top_k", top_k), self.calibration)

    def tokenize(self, texts: Sequence[str], kind: str) -> list[TokenIds]:
        """Texts as the graph takes them, for `vectors_of`: marked, cut and expanded as the contract says.

        Args:
            kind: "query" or "document".
        """
        return self._text.tokenize(check_texts(texts), kind)

    def vectors_of_many(self, tokens: Sequence[TokenIds]) -> list[Float32]:
        """`vectors_of` each tokenised text; on a GPU they share runs. Views of a run's vectors."""
        if self._model.shares_runs and sum(1 + len(each.cuts) for each in tokens) > 1:
            windows = [window for each in tokens for window in each.windows()]
            return _joined(tokens, self._model.batches.vectors(windows, self._head, self._gpu_runs))
        return [self.vectors_of(each) for each in tokens]

    def vectors_of(self, tokens: TokenIds, threads: int | None = None) -> Float32:
        """Float32 [n_kept, dim], the token vectors of one tokenised text.

        Args:
            threads: of a run on the CPU; all of this encoder's by default. Bulk work runs texts side by side
                on one.
        """
        if threads is None or not self._on_cpu:
            threads = self.threads
        return self._alone(tokens, self._session(threads))

    def spans(self, text: str, kind: str) -> list[Span]:
        """For each vector of a text, the characters [start, end) it stands for; (0, 0) for markers.

        Args:
            kind: "query" or "document".
        """
        return self.spans_many([text], kind)[0]

    def spans_many(self, texts: Sequence[str], kind: str) -> list[list[Span]]:
        """`spans` of each text."""
        return self._text.spans_many(check_texts(texts), kind)

    def count_tokens(self, texts: Sequence[str], kind: str = "document") -> list[int]:
        """Tokens each text has for the encoder, after truncation."""
        return [len(tokens.ids) for tokens in self._text.tokenize(check_texts(texts), kind)]

    def legibility(self, texts: Sequence[str]) -> Letters:
        """The letters of texts, `n`, and those of them in words that the model does not know or only spells.

        Where `are_mostly_unread`, it does not read their script, which `Index.add` warns of by a sample.
        """
        return self._text.legibility(check_texts(texts))

    def text_tokens(self, texts: Sequence[str]) -> list[TextTokens]:
        """Where the tokens and words of texts are, however long these are."""
        return self._text.text_tokens(check_texts(texts))

    def token_parts(self, texts: Sequence[str]) -> Iterator[Iterable[TextTokens]]:
        """`text_tokens` of each text in parts that follow each other, to be read before the next text's.

        So memory never holds all tokens of a book. A word of more than 16,384 characters may be cut into
        other tokens than in the whole text.
        """
        return self._text.token_parts(check_texts(texts))

    @property
    def document_room(self) -> int:
        """Tokens of its own that a document can have which is read at once: those of a passage at most, and
        of what late chunking encodes around it. In windows (`TextRules.window`) longer ones are read, too."""
        return self._text.room("document")

    @property
    def shares_runs(self) -> bool:
        """Whether texts of a call share runs of a GPU, which leaves the CPU free for other work meanwhile."""
        return self._model.shares_runs and self._runner is None

    @property
    def _replays(self) -> bool:
        """Whether single texts replay what was recorded of a run."""
        runs = self._gpu_runs
        return runs.captured and not runs.deterministic and self._model.shares_runs

    def _alone(self, tokens: TokenIds, session: Session) -> Float32:
        """The vectors of a text that shares its run with no other."""
        if tokens.cuts:
            return np.concatenate([self._alone(window, session) for window in tokens.windows()])
        if self._replays and (recordings := self._model.recordings(self._head)) is not None:
            found = recordings.run(tokens.ids, tokens.attended)
            if found is not None:
                return found if tokens.keep is None else found[tokens.keep]
        return _kept(session, tokens)

    @property
    def codes_on_device(self) -> bool:
        """Whether vectors of unit length are on a GPU when a run ends, and may stay there, see
        `code_documents`."""
        return self.shares_runs and self._model.is_normalised

    def _ahead(
        self, parts: Iterator[_Part], encode: Callable[[_Part], _Made]
    ) -> Generator[_Made, None, None]:
        """What is made of each part; on a GPU the next is begun before the last is taken."""
        if not self.shares_runs:
            yield from map(encode, parts)
            return
        from latebolt.encoder.pipeline import ahead

        yield from ahead(parts, encode, _GPU_PARTS)

    def _encode_ahead(
        self,
        texts: Sequence[str],
        max_length: int | None,
        finish: Callable[[Float32], Float32],
        show_progress: bool,
    ) -> TokenVectors:
        """Documents in parts, of which one is tokenised while another runs."""
        with progress_bar(len(texts), "encode", "text", show_progress) as bar:

            def encode(part: Sequence[str]) -> TokenVectors:
                return self._share(self._text.tokenize(part, "document", max_length), finish, bar)

            made = list(self._ahead(_parts(texts), encode))
        truncated = [cut for part in made for cut in _cut_off(part)]
        return TokenVectors.from_matrices([each for part in made for each in part], self.dim, truncated)

    def _share(
        self, tokens: list[TokenIds], finish: Callable[[Float32], Float32], bar: progress_bar
    ) -> TokenVectors:
        """Texts in runs of a GPU that they share."""

        windows = [(i == 0, window) for each in tokens for i, window in enumerate(each.windows())]

        def count(i: int, _: Float32) -> None:
            is_first, window = windows[i]
            bar.step(int(is_first), len(window.ids))

        runs = [window for _, window in windows]
        results = _joined(tokens, self._model.batches.vectors(runs, self._head, self._gpu_runs, count))

        def work(i: int) -> None:
            results[i] = finish(results[i])

        pools.run_jobs(range(len(tokens)), work, self.threads)
        return TokenVectors.from_matrices(results, self.dim, [each.truncated for each in tokens])

    @property
    def _on_cpu(self) -> bool:
        return self._model.device.is_cpu

    @property
    def _sessions(self) -> dict[int, Session]:
        """The loaded graphs by threads, which all views of the model share."""
        return self._model.sessions

    def _session(self, n_threads: int) -> Session:
        return self._model.session(self._head, n_threads)

    def _checked(self, tokens: list[TokenIds], vectors: list[Float32]) -> list[Float32]:
        """What a runner gave, if it is what `run_by` asks for."""
        wanted = [(each.n_kept, self.dim) for each in tokens]
        got = [np.shape(matrix) for matrix in vectors]
        if got != wanted:
            pairs = itertools.zip_longest(got, wanted)
            i, (found, shape) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            raise InvalidInput(f"the runner should give {shape} for text {i} (None: no text), got {found}.")
        return vectors

    def _encode(
        self,
        tokens: list[TokenIds],
        kind: str,
        finish: Callable[[Float32], Float32],
        show_progress: bool,
    ) -> TokenVectors:
        truncated = [each.truncated for each in tokens]
        if self._runner is not None:
            ran = self._checked(tokens, self._runner(tokens, kind))
            found = [finish(vectors) for vectors in ran]
            return TokenVectors.from_matrices(found, self.dim, truncated)
        if self._model.shares_runs and len(tokens) > 1:
            with progress_bar(len(tokens), "encode", "text", show_progress) as bar:
                return self._share(tokens, finish, bar)
        results: list[Float32] = [np.zeros((0, self.dim), np.float32)] * len(tokens)
        longest_first = sorted(range(len(tokens)), key=lambda i: -len(tokens[i].ids))
        bulk = self.threads > 1 and len(tokens) >= _BULK_TEXTS and self._on_cpu
        model = self._model
        session = (
            model.bulk_session(self._head, self.threads, len(tokens)) if bulk else self._session(self.threads)
        )

        with progress_bar(len(tokens), "encode", "text", show_progress) as bar:

            def work(i: int) -> None:
                results[i] = finish(self._alone(tokens[i], session))
                bar.step(1, len(tokens[i].ids))

            pools.run_jobs(longest_first, work, self.threads if bulk else 1)
        return TokenVectors.from_matrices(results, self.dim, truncated)


def _loaded(
    model: str,
    precision: str,
    dim: int,
    device: str,
    threads: int,
    lengths: tuple[int, int],
    gpu_runs: GpuRuns = GpuRuns(),  # noqa: B008 - frozen
) -> Encoder:
    """What a pickle calls."""
    loaded = Encoder.load(model, precision, dim, device, threads).with_lengths(*lengths)
    return replace(loaded, _gpu_runs=gpu_runs)


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[i : i + _GPU_TEXTS] for i in range(0, len(texts), _GPU_TEXTS))


def _cut_off(vectors: TokenVectors) -> list[bool]:
    """Of each text, whether its end was not read."""
    return [False] * len(vectors) if vectors.truncated is None else vectors.truncated.tolist()


def _joined(tokens: Sequence[TokenIds], windows: list[Any]) -> list[Any]:
    """What was made of each text, of what was made of their windows: vectors, or columns by their names."""
    left = iter(windows)
    found = []
    for each in tokens:
        parts = list(itertools.islice(left, 1 + len(each.cuts)))
        if len(parts) == 1:
            found += parts
        elif isinstance(parts[0], Mapping):
            found.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        else:
            found.append(np.concatenate(parts))
    return found


def _kept(session: Session, tokens: TokenIds) -> Float32:
    vectors = session.run(tokens.ids, tokens.attended)
    return vectors if tokens.keep is None else vectors[tokens.keep]
