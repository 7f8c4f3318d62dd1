"""`Index`: texts in, hits out. Joins an encoder, a codec and the store.

The store below knows only columns of numbers and documents; the encoder knows only texts. Here they meet:
a text becomes token vectors, the codec's columns, and a row of a segment. A young index, which has too few
tokens to learn centroids from, keeps float16 vectors until it has grown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Codec, Scorer
from latebolt.codec.residual import ResidualCodec
from latebolt.codec.restore import check_bits, restore, untrained
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.text import check_texts
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.index.documents import check_documents
from latebolt.index.layout import Column, ModelRecord
from latebolt.index.rank import best_rows
from latebolt.index.storage import Segment, Snapshot, Store, Writer
from latebolt.progress import progress_bar
from latebolt.rerank import check_k, check_query
from latebolt.values import Hit, TokenVectors

Float32 = npt.NDArray[np.float32]
Where = str | Mapping[str, Any] | None

# Below this an index keeps float16: fewer tokens do not say where centroids belong.
TRAIN_TOKENS = 8192
# Tokens looked at to learn the codec: enough for 48 a centroid at the largest default we train on.
SAMPLE_TOKENS = 196_608
# Documents encoded and written at a time; bounds the memory of an add.
CHUNK_DOCUMENTS = 512


class Index:
    """A folder of documents that can be searched by late interaction.

    Several processes may read while one writes; a reader sees whole commits only.
    """

    def __init__(self, store: Store, encoder: Encoder | None, load: Mapping[str, Any] | None = None) -> None:
        self._store, self._encoder, self._load = store, encoder, dict(load or {})
        self._codecs: dict[str, Codec] = {}

    @classmethod
    def create(
        cls, path: str | Path, encoder: Encoder | None, bits: int = 2, dim: int | None = None
    ) -> Index:
        """Make an empty index.

        Args:
            path: a folder that does not exist yet, or is empty.
            encoder: what texts will be encoded with; it is recorded inside. None for an index of vectors
                only (`add_vectors`, `search_vectors`), which needs `dim`.
            bits: residual bits a dimension: 1, 2 or 4; 8 = scalar int8, 16 = float16 (no centroids).
            dim: width of the token vectors, the encoder's by default.
        Raises:
            IndexExists: something is there already.
            InvalidInput: bits or dim does not fit.
        """
        check_bits(bits)
        if encoder is None:
            if dim is None:
                raise InvalidInput("an index without an encoder needs dim, the width of its token vectors.")
            model = None
        else:
            if dim not in (None, encoder.dim):
                raise InvalidInput(f"dim should be the encoder's {encoder.dim}, got {dim}.")
            dim = encoder.dim
            model = ModelRecord(encoder.model, encoder.fingerprint, encoder.precision, dim)
        if dim % 8 or dim <= 0:
            raise InvalidInput(f"dim should be a positive multiple of 8, got {dim}.")
        return cls(Store.create(path, dim=dim, bits=bits, model=model), encoder)

    @classmethod
    def open(
        cls, path: str | Path, encoder: Encoder | None = None, device: str = "cpu", threads: int | None = None
    ) -> Index:
        """Open an index; the model recorded inside is loaded when a text first needs it.

        Args:
            path: the index's folder.
            encoder: use this one instead of loading the recorded model.
            device, threads: for the recorded model, see `Encoder.load`.
        Raises:
            IndexNotFound: there is none.
            IndexCorrupt: its manifest or a file contradicts the format.
            ModelMismatch: `encoder` is not the model it was made with.
        """
        index = cls(Store.open(path), encoder, {"device": device, "threads": threads})
        if encoder is not None:
            index._check_model(encoder)
        return index

    @property
    def path(self) -> Path:
        """The index's folder."""
        return Path(self._store.path)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use.

        Raises:
            InvalidInput: the index holds vectors only.
            ModelMismatch: the model found under the recorded name is another one.
        """
        if self._encoder is None:
            record = self._store.manifest.model
            if record is None:
                raise InvalidInput(
                    f"{self.path}: was made without a model. Use search_vectors and add_vectors, "
                    "or open it with encoder=..."
                )
            encoder = Encoder.load(record.source, record.precision, record.dim, **self._load)
            self._check_model(encoder)
            self._encoder = encoder
        return self._encoder

    def _check_model(self, encoder: Encoder) -> None:
        record = self._store.manifest.model
        if record is not None and record.fingerprint != encoder.fingerprint:
            given = f'"{encoder.model}" at dim {encoder.dim}'
            if (encoder.model, encoder.dim) == (record.source, record.dim):
                given = "the one of that name now"
            raise ModelMismatch(
                f'{self.path}: was made with model "{record.source}" at dim {record.dim}, and {given} gives '
                "other vectors. Open it with the model it was made with, or index again."
            )

    def __len__(self) -> int:
        """Documents that a search can find."""
        return int(self._store.snapshot().n_documents)

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self)} documents, dim {self._store.manifest.dim})"

    def close(self) -> None:
        """Release the index's files."""
        self._store.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def add(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        show_progress: bool = False,
    ) -> list[str]:
        """Add documents in one commit: all of them, or none when it fails or is interrupted.

        Args:
            texts: the documents.
            ids: one str a text; an id that exists is replaced. Numbers that are free by default.
            metadata: one JSON object (or None) a text, for `where`.
            show_progress: a bar on stderr.
        Returns:
            The ids.
        Raises:
            InvalidInput: lengths differ, or a value does not fit; names the position.
            IndexLocked: another process is writing.
            StorageFull: the disk is full; the index is as it was.
        """
        texts = check_texts(texts)
        chunks = _Documents(texts, ids, metadata)
        encoder = self.encoder

        with self._store.writer() as writer:
            names = self._names(writer, chunks.ids, len(texts))
            check_documents(names, texts, metadata)  # before the long work, not in the middle of it
            with progress_bar(len(texts), "index", "text", show_progress) as bar:
                seen: dict[int, Float32] = {}  # of the sample, so that no text is encoded twice

                def encode(rows: Sequence[int]) -> TokenVectors:
                    new = [i for i in rows if i not in seen]
                    vectors = encoder.encode_documents([texts[i] for i in new])
                    bar.step(len(new), vectors.n_tokens)
                    found = dict(zip(new, vectors, strict=True))
                    return TokenVectors.from_matrices(
                        [found[i] if i in found else seen.pop(i) for i in rows], encoder.dim
                    )

                def sample(rows: Sequence[int]) -> TokenVectors:
                    vectors = encode(rows)
                    seen.update(zip(rows, vectors, strict=True))
                    return vectors

                encoded = ((rows, encode(rows)) for rows in _chunked(len(texts)))
                self._write(writer, names, chunks, encoded, sample)
            writer.tidy()
            writer.commit()
        return names

    def add_vectors(
        self,
        ids: Sequence[str] | None,
        token_vectors: TokenVectors,
        texts: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[str]:
        """Add documents whose token vectors are there already; see `add`.

        Args:
            token_vectors: one entry a document, of the index's width, unit length.
        """
        dim = self._store.manifest.dim
        if token_vectors.dim != dim:
            raise InvalidInput(f"token_vectors should have dim {dim}, got {token_vectors.dim}.")
        if not np.isfinite(token_vectors.values).all():
            bad = int(np.flatnonzero(~np.isfinite(token_vectors.values).all(axis=1))[0])
            document = int(np.searchsorted(token_vectors.offsets, bad, side="right")) - 1
            raise InvalidInput(f"token_vectors[{document}] has a value that is not finite.")
        chunks = _Documents(texts, ids, metadata, len(token_vectors))

        with self._store.writer() as writer:
            names = self._names(writer, chunks.ids, len(token_vectors))
            slices = ((rows, token_vectors[rows.start : rows.stop]) for rows in _chunked(len(token_vectors)))

            def pick(rows: Sequence[int]) -> TokenVectors:
                return TokenVectors.from_matrices([token_vectors[i] for i in rows], dim)

            self._write(writer, names, chunks, slices, pick)
            writer.tidy()
            writer.commit()
        return names

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; says how many there were. Unknown ids are ignored."""
        if isinstance(ids, str | bytes):
            raise InvalidInput(f"ids should be a list of str, got one {type(ids).__name__}.")
        with self._store.writer() as writer:
            found = writer.delete(list(ids))
            writer.commit()
        return int(found)

    def compact(self) -> None:
        """Rewrite the segments as one a codec, without deleted documents; frees their space."""
        with self._store.writer() as writer:
            by_codec: dict[tuple[str | None, Any], list[str]] = {}
            for segment in writer.segments:
                by_codec.setdefault((segment.codec, segment.columns), []).append(segment.name)
            deleted = {segment.name for segment in writer.segments if segment.n_deleted}
            for names in by_codec.values():
                if len(names) > 1 or names[0] in deleted:
                    writer.merge(names)
            writer.commit()

    def _write(
        self,
        writer: Writer,
        names: Sequence[str],
        documents: _Documents,
        chunks: Iterator[tuple[range, TokenVectors]],
        pick: Callable[[Sequence[int]], TokenVectors],
    ) -> None:
        """Train if it is time, then stream chunks of token vectors into a new segment.

        `pick` gives the token vectors of some of the new documents, to learn from.
        """
        codec = self._current_codec(writer)
        if codec is None:
            sample, expected = self._sample(writer, len(names), pick)
            if expected >= TRAIN_TOKENS:
                codec = self._train(writer, sample, expected)
        plain = codec or untrained(self._store.manifest.dim, 16)
        segment = writer.new_segment(tuple(Column(*spec) for spec in plain.columns))
        for rows, vectors in chunks:
            segment.append(
                names[rows.start : rows.stop],
                documents.slice(documents.texts, rows),
                documents.slice(documents.metadata, rows),
                vectors.lengths,
                plain.encode(vectors.values),
            )
        segment.finish()

    def _names(self, writer: Writer, ids: list[str] | None, n: int) -> list[str]:
        """The ids given, or `n` numbers that no document has or ever had by this way."""
        if ids is not None:
            return ids
        settings = self._store.snapshot().settings
        following = int(settings.get("next_id", 0))
        free: list[str] = []
        while len(free) < n:
            wanted = [str(i) for i in range(following, following + n - len(free))]
            following += len(wanted)
            taken = {name for s in writer.segments for name in s.ids(s.rows_of(wanted))}
            free += [name for name in wanted if name not in taken]
        writer.set_settings({**settings, "next_id": following})
        return free

    def _current_codec(self, writer: Writer) -> Codec | None:
        """The codec for new documents; None while the index is too young for its residual codec."""
        manifest = self._store.manifest
        if manifest.bits >= 8:
            return untrained(manifest.dim, manifest.bits)
        snapshot = self._store.snapshot()
        return None if snapshot.codec is None else self._codec(snapshot, snapshot.codec.name)

    def _sample(
        self, writer: Writer, n_new: int, pick: Callable[[Sequence[int]], TokenVectors]
    ) -> tuple[Float32, int]:
        """(token vectors of a random part of old and new documents, tokens expected in all)."""
        parts: list[Float32] = []
        old_tokens = 0
        plain = untrained(self._store.manifest.dim, 16)
        for segment in writer.segments:
            for block in segment.blocks():
                parts.append(plain.decode(block.columns))
                old_tokens += len(parts[-1])
        order = np.random.default_rng(0).permutation(n_new)
        new_tokens = seen = 0
        for rows in _chunked(n_new, 256):
            vectors = pick([int(i) for i in order[rows.start : rows.stop]])
            parts.append(vectors.values)
            seen, new_tokens = seen + len(rows), new_tokens + vectors.n_tokens
            if old_tokens + new_tokens >= SAMPLE_TOKENS:
                break
        empty = np.zeros((0, self._store.manifest.dim), np.float32)
        expected = old_tokens + (new_tokens * n_new // seen if seen else 0)
        return np.concatenate(parts) if parts else empty, expected

    def _train(self, writer: Writer, sample: Float32, n_tokens: int) -> Codec:
        """Learn the codec and turn the young segments into residual codes."""
        codec = ResidualCodec.train(sample, self._store.manifest.bits, n_tokens)
        name = writer.set_codec(*codec.state())
        young = [segment for segment in writer.segments if segment.codec is None]
        if young:
            plain = untrained(codec.dim, 16)
            segment = writer.new_segment(tuple(Column(*spec) for spec in codec.columns), codec=name)
            for block in itertools.chain.from_iterable(old.blocks() for old in young):
                columns = codec.encode(plain.decode(block.columns))
                segment.append(block.ids, block.texts, block.metadata, block.lengths, columns)
            segment.finish()
            writer.drop_segments([old.name for old in young])
        return codec

    # Searching

    def search(self, query: str, k: int = 10, where: Where = None, exhaustive: bool = False) -> list[Hit]:
        """The best documents for a query, best first; ties by id.

        Args:
            query: a text with at least one word.
            k: hits wanted; fewer come back when fewer documents qualify.
            where: only documents whose metadata satisfy it, e.g. 'year >= 2020 and lang = "en"' or
                {"year": {">=": 2020}, "lang": "en"}.
            exhaustive: score every document exactly. Otherwise documents are ranked by their centroids (in
                large segments only those that lists by centroid bring up), and the best are scored exactly
                until more of them change nothing.
        Raises:
            InvalidInput: an empty query, k below 1, or a filter that cannot be read (names the position).
        """
        return self.search_many([query], k, where, exhaustive)[0]

    def search_many(
        self, queries: Sequence[str], k: int = 10, where: Where = None, exhaustive: bool = False
    ) -> list[list[Hit]]:
        """`search` for several queries over one state of the index."""
        check_k(k)
        vectors = self.encoder.encode_queries([check_query(query) for query in queries])
        snapshot = self._store.snapshot()
        return [self._search(snapshot, matrix, k, where, exhaustive) for matrix in vectors]

    def search_vectors(
        self, matrix: npt.ArrayLike, k: int = 10, where: Where = None, exhaustive: bool = False
    ) -> list[Hit]:
        """`search` with a query's token vectors.

        Args:
            matrix: float32 [n_query, dim], finite.
        """
        return self._search(
            self._store.snapshot(), np.asarray(matrix, np.float32), check_k(k), where, exhaustive
        )

    def _search(
        self, snapshot: Snapshot, matrix: Float32, k: int, where: Where, exhaustive: bool
    ) -> list[Hit]:
        found: list[tuple[float, str, Segment, int]] = []
        threads = self._encoder.threads if self._encoder else None
        scorers: dict[str | None, Scorer] = {}
        for segment in snapshot.segments:
            rows = self._rows(segment, where)
            if rows is not None and len(rows) == 0:
                continue
            if segment.codec not in scorers:
                scorers[segment.codec] = self._codec(snapshot, segment.codec).scorer(matrix, threads)
            numbers, scores = best_rows(segment, scorers[segment.codec], rows, k, exhaustive)
            ids = segment.ids(numbers)
            found += [(float(scores[n]), ids[n], segment, int(row)) for n, row in enumerate(numbers)]
        found.sort(key=lambda hit: (-hit[0], hit[1]))
        return [self._hit(*hit) for hit in found[:k]]

    def _rows(self, segment: Segment, where: Where) -> npt.NDArray[np.int64] | None:
        """Rows that may be found; None for all of the segment."""
        if where is None and segment.n_deleted == 0:
            return None
        return np.flatnonzero(segment.select(where))

    def _codec(self, snapshot: Snapshot, name: str | None) -> Codec:
        key = name or ""
        if key not in self._codecs:
            if name is None:
                bits = snapshot.bits if snapshot.bits >= 8 else 16
                self._codecs[key] = untrained(snapshot.dim, bits)
            else:
                stored = snapshot.codecs[name]
                self._codecs[key] = restore(stored.arrays, stored.info)
        return self._codecs[key]

    @staticmethod
    def _hit(score: float, name: str, segment: Segment, row: int) -> Hit:
        [(_, text, metadata)] = segment.documents([row])
        return Hit(name, score, text, metadata)

    def info(self) -> dict[str, Any]:
        """Figures of the index, for people and programs: documents, tokens, bytes, model, codec."""
        snapshot = self._store.snapshot()
        codec = snapshot.codec
        trained = None if codec is None else self._codec(snapshot, codec.name)
        plain = untrained(snapshot.dim, snapshot.bits if snapshot.bits >= 8 else 16)
        return {
            "path": str(self.path),
            "documents": snapshot.n_documents,
            "tokens": snapshot.n_tokens,
            "segments": len(snapshot.segments),
            "deleted": sum(segment.n_deleted for segment in snapshot.segments),
            "dim": snapshot.dim,
            "bits": snapshot.bits,
            "centroids": None if codec is None else len(codec.arrays["centroids"]),
            "bytes_per_token": (trained or plain).bytes_per_token(),
            "bytes": snapshot.n_bytes,
            "generation": snapshot.generation,
            "model": None if snapshot.model is None else snapshot.model.source,
            "precision": None if snapshot.model is None else snapshot.model.precision,
        }


class _Documents:
    """The texts, ids and metadata of one add, checked to be of one length."""

    def __init__(
        self,
        texts: Sequence[str] | None,
        ids: Sequence[str] | None,
        metadata: Sequence[Mapping[str, Any] | None] | None,
        n: int | None = None,
    ) -> None:
        count = n if n is not None else len(texts or ())
        for name, values in (("texts", texts), ("ids", ids), ("metadata", metadata)):
            if isinstance(values, str | bytes | Mapping):
                raise InvalidInput(f"{name} should be a list, got one {type(values).__name__}.")
            if values is not None and len(values) != count:
                raise InvalidInput(f"{name} should have {count} entries, one a document, got {len(values)}.")
        self.texts, self.metadata = texts, metadata
        self.ids = None if ids is None else list(ids)

    @staticmethod
    def slice(values: Sequence[Any] | None, rows: range) -> Sequence[Any] | None:
        """The values of some rows, or None when there are none at all."""
        return None if values is None else values[rows.start : rows.stop]


def _chunked(n: int, size: int = CHUNK_DOCUMENTS) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))
