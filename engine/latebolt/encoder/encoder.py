"""`Encoder`: texts in, token vectors out, with an exported model and no PyTorch.

Every text runs through the graph alone on the CPU. Dynamic int8 quantises a whole tensor, so texts that
shared a run would change each other's vectors; alone, a text's vectors never depend on what else is in
the call, and one text a run is also the fastest shape there. Bulk work keeps K threads busy with
single-threaded runs; a single query gets all threads on one run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latebolt import threads as pools
from latebolt.encoder import model_folder
from latebolt.encoder.model_folder import ModelFolder
from latebolt.encoder.pooling import pool_tokens
from latebolt.encoder.session import Session, resolve_device
from latebolt.encoder.text import Span, TextPipeline, TokenIds, check_texts
from latebolt.errors import InvalidInput
from latebolt.progress import progress_bar
from latebolt.rerank import rerank
from latebolt.values import Hit, TokenVectors

Float32 = npt.NDArray[np.float32]

# From so many texts on, single-threaded runs side by side beat one multi-threaded run after another.
_BULK_TEXTS = 8


class Encoder:
    """A late-interaction model: queries and documents to `TokenVectors`. Thread-safe."""

    def __init__(
        self, folder: ModelFolder, precision: str, dim: int, device: tuple[str, int], threads: int
    ) -> None:
        self.folder, self.precision, self.dim, self.threads = folder, precision, dim, threads
        self.contract = folder.contract
        self.device = device[0] if device[1] == 0 else f"{device[0]}:{device[1]}"
        self._device = device
        self._file, _ = folder.graph_file(precision)
        self._head = self.contract.head(dim)
        self._text = TextPipeline(folder.tokenizer_file, self.contract)
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()
        self._session(threads)

    @classmethod
    def load(
        cls,
        model: str | Path = "starter",
        precision: str | None = None,
        dim: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> Encoder:
        """Load a model.

        Args:
            model: the built-in "starter", an exported folder, or a hub id `org/name`.
            precision: "fp32", "fp16" or "int8"; by default the fastest the model has for the device.
            dim: width of the token vectors, one of the model's heads; the widest by default.
            device: "cpu", "cuda", "cuda:N", or "auto" (CUDA when there is one).
            threads: CPU threads to use; all CPUs of this process by default.
        Raises:
            ModelError: no such model, precision or head, or a damaged file.
            RuntimeUnavailable: no ONNX Runtime, or the device asked for is not there.
        """
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise InvalidInput(f"threads should be at least 1, got {threads!r}.")
        folder = model_folder.find(model)
        where = resolve_device(device)
        if precision is None:
            order = ("int8", "fp32", "fp16") if where[0] == "cpu" else ("fp16", "fp32", "int8")
            precision = next(name for name in order if name in folder.contract.graphs)
        width = folder.contract.head(dim).dim
        return cls(folder, precision, width, where, threads or pools.available_cpus())

    @property
    def model(self) -> str:
        """What finds the model again: "starter", an absolute path, or a hub id."""
        return self.folder.name

    @property
    def fingerprint(self) -> str:
        """Equal for encoders whose token vectors may be compared (precision does not matter)."""
        return self.contract.fingerprint(self.dim)

    def __repr__(self) -> str:
        return (
            f"Encoder({self.model!r}, precision={self.precision!r}, dim={self.dim}, "
            f"device={self.device!r}, threads={self.threads})"
        )

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of queries, in input order; each is truncated to the contract's length.

        Raises:
            InvalidInput: not a list of str; names the position.
        """
        tokens = self._text.tokenize(check_texts(texts, "queries"), "query")
        return self._encode(tokens, lambda vectors: vectors, show_progress=False)

    def encode_documents(
        self,
        texts: Sequence[str],
        show_progress: bool = False,
        pool_factor: int = 1,
        max_length: int | None = None,
    ) -> TokenVectors:
        """Token vectors of documents, in input order.

        Args:
            texts: documents; an empty one keeps the vectors of its markers.
            show_progress: a bar on stderr.
            pool_factor: keep about 1 / pool_factor of the vectors, by hierarchical clustering.
            max_length: tokens of a document, markers included; the contract's by default.
        Raises:
            InvalidInput: not a list of str, pool_factor below 1, or max_length out of range.
        """
        if not isinstance(pool_factor, int) or pool_factor < 1:
            raise InvalidInput(f"pool_factor should be an int of at least 1, got {pool_factor!r}.")
        tokens = self._text.tokenize(check_texts(texts, "documents"), "document", max_length)
        protected = len(self.contract.frame.prefix) + (self.contract.document.marker is not None)

        def finish(vectors: Float32) -> Float32:
            return pool_tokens(vectors, pool_factor, protected)

        return self._encode(tokens, finish, show_progress)

    def rerank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[Hit]:
        """The documents by MaxSim with the query, best first; `Hit.id` is the position in `documents`.

        Raises:
            InvalidInput: an empty query, or documents that are not a list of str.
        """
        return rerank(self, query, documents, top_k)

    def spans(self, text: str, kind: str) -> list[Span]:
        """For each vector of a text, the characters [start, end) it stands for; (0, 0) for markers.

        Args:
            kind: "query" or "document".
        """
        return self._text.spans(check_texts([text])[0], kind)

    def count_tokens(self, texts: Sequence[str], kind: str = "document") -> list[int]:
        """Tokens each text has for the encoder, after truncation."""
        return [len(tokens.ids) for tokens in self._text.tokenize(check_texts(texts), kind)]

    def _session(self, n_threads: int) -> Session:
        with self._lock:
            if n_threads not in self._sessions:
                self._sessions[n_threads] = Session(self._file, self._head.output, n_threads, self._device)
            return self._sessions[n_threads]

    def _encode(
        self, tokens: list[TokenIds], finish: Callable[[Float32], Float32], show_progress: bool
    ) -> TokenVectors:
        results: list[Float32] = [np.zeros((0, self.dim), np.float32)] * len(tokens)
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i].ids))
        bulk = self.threads > 1 and len(tokens) >= _BULK_TEXTS and self._device[0] == "cpu"
        session = self._session(1 if bulk else self.threads)
        stop = threading.Event()

        with progress_bar(len(tokens), "encode", "text", show_progress) as bar:

            def work(queue: list[int]) -> None:
                while not stop.is_set():
                    try:
                        i = queue.pop()  # atomic; several workers share the queue
                    except IndexError:
                        return
                    vectors = session.run(tokens[i].ids, tokens[i].attended)
                    keep = tokens[i].keep
                    results[i] = finish(vectors if keep is None else vectors[keep])
                    bar.step(1, len(tokens[i].ids))

            queue = order[::-1]  # longest first, popped from the end
            if bulk:
                futures = [pools.pool(self.threads).submit(work, queue) for _ in range(self.threads)]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:
                    stop.set()  # an error or Ctrl-C leaves nothing running
                    wait(futures)
                for future in futures:
                    future.result()
            else:
                work(queue)
        return TokenVectors.from_matrices(results, self.dim)
