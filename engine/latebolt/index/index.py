"""`Index`: texts in, hits out. Joins an encoder, a codec and the store.

The store below knows only columns of numbers and documents; the encoder knows only texts. Here they meet:
a text becomes token vectors, the codec's columns, and a row of a segment.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.checks import CheckedTexts, check_many, check_query, check_timeout, whole_number
from latebolt.codec.base import Codec
from latebolt.codec.coding import KERNELS, Coding
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.restore import check_bits, untrained
from latebolt.confidence import Calibration
from latebolt.cpus import available_cpus
from latebolt.encoder import legibility
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import Pooling, check_pooling
from latebolt.encoder.tally import Letters, current, gathered
from latebolt.errors import IndexExists, IndexNotFound, InvalidInput, ModelMismatch
from latebolt.hits import Explanation, Hit, match_words
from latebolt.index.documents.checked import CheckedDocument, check_ids, chosen_ids
from latebolt.index.documents.origins import Place
from latebolt.index.documents.passages import Cutting, check_cutting, kept_cutting
from latebolt.index.documents.pooled import kept_pooling, pooling_settings
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format.layout import COUNTS_TRUNCATED, ModelRecord
from latebolt.index.ingest.addition import Addition
from latebolt.index.ingest.adopt import Adoption, check_fit
from latebolt.index.ingest.codings import Codings
from latebolt.index.ingest.copies import Copies
from latebolt.index.ingest.long_addition import LongAddition, Progress, progress_of
from latebolt.index.ingest.parts import part_folders
from latebolt.index.ingest.read_back import DECODE_TOKENS, Entry, StoredDocuments, entries, entries_of, walk
from latebolt.index.ingest.relabel import change_of, relabel
from latebolt.index.ingest.sources import (
    Batch,
    EncodedTexts,
    GivenVectors,
    batches_of,
    one_batch,
    rows_of,
)
from latebolt.index.ingest.sync import Action, Pace, Sync, SyncCounts, Unlisted, batched, checked
from latebolt.index.ingest.told import warn_of_truncation
from latebolt.index.ingest.train import PART_SETTING, CodecTrainer
from latebolt.index.ingest.unit_length import unit_vectors
from latebolt.index.places import is_uri, masked, open_uri
from latebolt.index.search.bm25 import count_words, word_shares, word_weights
from latebolt.index.search.common_words import LEAST_TEXTS, without_common
from latebolt.index.search.explain import Trace
from latebolt.index.search.fusion import Mode
from latebolt.index.search.known_fields import check_fields
from latebolt.index.search.matches import match_hits, stored_vectors
from latebolt.index.search.on_device import DeviceSearch, QueryBatch
from latebolt.index.search.query import Query, Request, Whole
from latebolt.index.search.read_hits import read_hits
from latebolt.index.search.word_matches import match_words_of
from latebolt.index.store.backup import Backup, back_up
from latebolt.index.store.codecs import restored
from latebolt.index.store.store import Snapshot, Store, Writer
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors, as_matrix, as_token_vectors

T = TypeVar("T")

# An empty index is made in milliseconds; one that its first addition makes, by another process, in minutes.
_MAKING_SECONDS: Final = 60.0
_UNTRACED: Final = Trace(False)


class Index:
    """A folder of documents that can be searched by late interaction.

    Several processes may read while one writes; a reader sees whole commits only.
    """

    def __init__(self, store: Store, encoder: Encoder | None, load: Mapping[str, Any] | None = None) -> None:
        self._store, self._encoder, self._load = store, encoder, dict(load or {})
        self._given = encoder  # not loaded by what the index records
        self._codings = Codings(self._load.get("device", "cpu"))
        self._devices = DeviceSearch(self._load.get("device", "cpu"), store.path)
        self._codecs: dict[str, tuple[object, Codec]] = {}  # with what each was restored from
        self._warned_of_script = False

    @classmethod
    def create(
        cls,
        path: str | Path,
        encoder: Encoder | None,
        bits: int = 2,
        dim: int | None = None,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        with_first_add: bool = False,
        late_chunking: bool = False,
        device: str | Sequence[str] = "cpu",
        pool_factor: int = 1,
        max_vectors: int | None = None,
    ) -> Index:
        """Make an empty index.

        Args:
            path: a folder that does not exist yet, or is empty.
            encoder: what texts will be encoded with; it is recorded inside. None for an index of vectors
                only (`add_vectors`, `search_vectors`), which needs `dim`.
            bits: residual bits a dimension: 1, 2 or 4; 8 = scalar int8, 16 = float16 (no centroids).
            dim: width of the token vectors, the encoder's by default.
            passage_tokens: cut texts of more tokens, the model's markers not counted, into passages of at
                most so many, between words. Each is encoded by itself; a search finds the document by its
                best passage, which is the hit's text. None: a document is one text, of which the model sees
                the beginning, as much as it takes.
            passage_overlap: tokens a passage shares with the one before, less where that would split a
                word; a quarter of `passage_tokens` by default, at most 64.
            with_first_add: make the folder in the commit of the first `add`, `add_vectors` or `adopt` (of no
                documents too), so that one that is refused, or interrupted, leaves nothing behind. Until
                then the index is an empty one that only this object knows.
            late_chunking: encode passages within the text around them, as much as the model reads at once,
                and cut their vectors out (`Encoder.encode_parts`). Texts, passages and what is found of them
                are the same; a text that fits one passage has the same vectors. Needs `passage_tokens`.
            device: see `open`. Nothing of it is recorded.
            pool_factor, max_vectors: keep about 1 / pool_factor of each text's vectors, or each passage's,
                and no more than max_vectors, markers included, by hierarchical clustering; see
                `Encoder.encode_documents`, whose vectors an index that pools has. So of every text that is
                ever added; vectors that are added as such stay as they are given.
        Raises:
            IndexExists: something is there already; with `with_first_add` also from the first addition, if
                another process was quicker.
            InvalidInput: bits, dim, passage_tokens, passage_overlap, late_chunking, pool_factor or
                max_vectors does not fit.
        """
        _check_encoder(encoder)
        if is_uri(path):
            raise InvalidInput(
                f"{masked(str(path))}: is a URI, and an index is made in a folder. Put it there by "
                '"latebolt publish".'
            )
        bits = check_bits(whole_number(bits, "bits"))
        if encoder is None:
            if dim is None:
                raise InvalidInput("an index without an encoder needs dim, the width of its token vectors.")
            if passage_tokens is not None or passage_overlap is not None or late_chunking:
                raise InvalidInput("passage_tokens needs an encoder, whose tokens they are.")
            if pool_factor != 1 or max_vectors is not None:
                raise InvalidInput(
                    "pool_factor and max_vectors need an encoder, whose vectors are pooled. Pool vectors of "
                    "your own before they are added."
                )
            dim, model, cutting, pooling = whole_number(dim, "dim"), None, None, Pooling()
        else:
            if dim not in (None, encoder.dim):
                raise InvalidInput(f"dim should be the encoder's {encoder.dim}, got {dim}.")
            dim = encoder.dim
            model = ModelRecord(encoder.model, encoder.fingerprint, encoder.precision, dim)
            cutting = check_cutting(passage_tokens, passage_overlap, encoder.document_room, late_chunking)
            pooling = check_pooling(pool_factor, max_vectors, encoder.least_vectors)
        if dim % 8:
            raise InvalidInput(f"dim should be a positive multiple of 8, got {dim}.")
        settings = {
            COUNTS_TRUNCATED: True,
            **({} if cutting is None else cutting.settings()),
            **pooling_settings(pooling),
        }
        begin = Store.stage if with_first_add else Store.create
        store = begin(path, dim=dim, bits=bits, model=model, settings=settings)
        return cls(store, encoder, {"device": device})

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        device: str | Sequence[str] = "cpu",
        threads: int | None = None,
        cache: str | Path | None = None,
        refresh: float | None = 60.0,
    ) -> Index:
        """Open an index; the model recorded inside is loaded when a text first needs it.

        Args:
            path: the index's folder; or the URI where `latebolt publish` has put one, such as
                "s3://bucket/notes". That is copied to this machine first, is read-only, and follows what is
                published later.
            encoder: use this one instead of loading the recorded model.
            device, threads: for the recorded model, see `Encoder.load`. On "cuda" or "cuda:N" codes live on
                the GPU, too, from the first search on, and every search scores all of them: hits and scores
                are those of an exhaustive search on the CPU. Of several GPUs each has some of the segments.
                "auto" leaves the codes of searches to the CPU. Additions make their codes on the device, of
                several the first. Those of 8 and 16 bits a dimension, and vectors that wait for a codec, are
                no more than rounded, which the CPU does.
            cache: of a URI: the folder that holds the copy, which processes of one machine may share; one in
                the user's cache folder by default.
            refresh: of a URI: a search looks for a newer commit when the last look was so many seconds ago.
                It does not wait for it: those after it see the new one as soon as it is here, whole. None:
                only `refresh()` looks.
        Raises:
            InvalidInput: another word than those of devices.
            IndexNotFound: there is none.
            IndexCorrupt: its manifest or a file contradicts the format.
            ModelMismatch: `encoder` is not the model it was made with.
            ObjectStoreError: the store cannot be reached, and there is no copy here yet.
        """
        if is_uri(path):
            store = open_uri(str(path), cache, refresh)
        else:
            store = Store.open(path)
        index = cls(store, encoder, {"device": device, "threads": threads})
        if encoder is not None:
            index._check_model(encoder)
        return index

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        encoder: Encoder | None,
        bits: int | None = None,
        dim: int | None = None,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        late_chunking: bool | None = None,
        device: str | Sequence[str] = "cpu",
        pool_factor: int | None = None,
        max_vectors: int | None = None,
    ) -> Index:
        """Open the index of a folder, or make an empty one where there is none.

        Processes that do so at once have the same index: one makes it, the others wait for that and open it.

        Args:
            encoder: what texts are, or will be, encoded with. None for an index of vectors only.
            bits, dim, passage_tokens, passage_overlap, late_chunking, pool_factor, max_vectors: of a new
                index, see `create`. One that is there has to have those that are given; None fits every
                index.
            device: see `open`.
        Raises:
            ModelMismatch: the index was made with another model than `encoder`.
            InvalidInput: it has another setting than the one that is given; or see `create`.
            IndexCorrupt: it is damaged. Nothing is made in its place.
            IndexExists: something else than an index is there.
            IndexLocked: another process is making it, and took too long.
        """
        _check_encoder(encoder)
        try:
            found = cls.open(path, encoder, device)
        except IndexNotFound:
            try:
                made = cls.create(
                    path,
                    encoder,
                    2 if bits is None else bits,
                    dim,
                    passage_tokens,
                    passage_overlap,
                    with_first_add=True,
                    late_chunking=bool(late_chunking),
                    device=device,
                    pool_factor=1 if pool_factor is None else pool_factor,
                    max_vectors=max_vectors,
                )
                made._store.make(_MAKING_SECONDS)
                return made
            except IndexExists as error:
                try:
                    found = cls.open(path, encoder, device)  # made by another process since we looked
                except IndexNotFound:
                    raise error from None  # which says what is there instead
        found.check_settings(
            {
                "bits": bits,
                "dim": encoder.dim if dim is None and encoder is not None else dim,
                "passage_tokens": passage_tokens,
                "passage_overlap": passage_overlap,
                "late_chunking": late_chunking,
                "pool_factor": pool_factor,
                "max_vectors": max_vectors,
            }
        )
        return found

    def check_settings(
        self, asked: Mapping[str, Any], spelled: Callable[[str, Any], str] = "{}={}".format
    ) -> None:
        """Raise InvalidInput where the index has another setting than the one that is asked for.

        Args:
            asked: values of `bits`, `dim`, `passage_tokens`, `passage_overlap`, `late_chunking`,
                `pool_factor` and `max_vectors`; None is not asked for.
            spelled: a name and its value as the caller wrote them, for the message.
        """
        has = self._settings(self._store.snapshot())
        for name, value in asked.items():
            if value is not None and value != has[name]:
                raise InvalidInput(
                    f"{self.path}: has {name} {has[name]}; {spelled(name, value)} fits only a new index."
                )

    @staticmethod
    def _settings(snapshot: Snapshot) -> dict[str, Any]:
        """What an index was made with and keeps, by the names of `create`."""
        cutting, pooling = kept_cutting(snapshot.settings), kept_pooling(snapshot.settings)
        return {
            "dim": snapshot.dim,
            "bits": snapshot.bits,
            "passage_tokens": None if cutting is None else cutting.tokens,
            "passage_overlap": None if cutting is None else cutting.overlap,
            "late_chunking": cutting is not None and cutting.window is not None,
            "pool_factor": pooling.factor,
            "max_vectors": pooling.most,
        }

    @property
    def path(self) -> Path:
        """The index's folder; of one that was opened by a URI, that of the copy."""
        return Path(self._store.path)

    @property
    def dim(self) -> int:
        """Width of the token vectors."""
        return self._store.manifest.dim

    @property
    def model(self) -> ModelRecord | None:
        """What the index was made with; None for one of vectors only."""
        return self._store.manifest.model

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

    def __bool__(self) -> bool:
        """There is one, however many documents it holds."""
        return True

    def __repr__(self) -> str:
        state = "closed" if self._store.closed else f"{len(self)} documents, dim {self.dim}"
        return f"Index({self._store.place!r}, {state})"

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle says how to open the index again: by its folder, with the encoder that was given to it."""
        self._store.check_open()
        if self._store.staged:
            raise InvalidInput(
                f"{self.path}: cannot be pickled before its first addition has made it. Add documents first."
            )
        address, settings = self._store.address
        return _opened, (address, self._given, {**self._load, **settings})

    def refresh(self) -> bool:
        """Look for a newer commit now, and wait until it is here; whether there was one.

        An index in a folder needs none of it: each search looks. One that was opened by a URI looks as often
        as `open` was told, and this says what keeps it from it.

        Raises:
            ObjectStoreError: the store cannot be reached; the index is as it was.
            IndexCorrupt: what is published is damaged; the index is as it was.
            StorageFull: there is no room for it; the index is as it was.
        """
        self._store.check_open()
        return self._store.refresh()

    def close(self) -> None:
        """Release the index's files. Whatever is asked of it afterwards is an IndexUnusable."""
        self._store.close()
        self._codings.release()
        self._devices.release()

    def __enter__(self) -> Index:
        self._store.check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def add(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
        places: Iterable[Place | None] | None = None,
        device: str | Sequence[str] | None = None,
    ) -> list[str]:
        """Add documents in one commit: all of them, or none when it fails or is interrupted.

        Sequences are checked before the work begins. If one of the four is another iterable, such as a
        generator, all are read in lockstep, and what memory holds at a time does not grow with their length,
        but for the ids. The codec of a new index is then learnt from the first 32,768 texts, with centroids
        for four times as many.

        Warnings of the logger "latebolt" count texts whose end the model did not read, and say once where
        most texts, by a sample, are in a script that it does not read.

        Args:
            texts: the documents; `create` said whether long ones are cut into passages, and how many of their
                vectors are kept.
            ids: one str a text; an id that exists is replaced. Numbers that are free by default.
            metadata: one JSON object (or None) a text, for `where`.
            show_progress: a bar on stderr.
            timeout: seconds to wait for another process that is writing; None: not at all. Threads of this
                process take turns, however long that takes.
            places: one function (or None) a text: of its characters [start, stop) it gives a small JSON
                object that says where they stand in what the text was read from, such as {"page": 3}. It is
                asked for each passage, and a hit has it as `place`.
            device: where vectors become codes, see `open`; where the index was opened for by default. The
                model runs on the device that the encoder was loaded for.
        Returns:
            The ids.
        Raises:
            InvalidInput: lengths differ, or a value does not fit; names the position.
            IndexLocked: another process is writing, and was when the time was up.
            StorageFull: the disk is full; the index is as it was.
            OutOfMemory: the device has too little; the index is as it was.
            RuntimeUnavailable: there is no such device, or not what it takes to use it.
        """
        self._store.check_open()
        coding = self._codings.on(device)
        batches = batches_of(texts, ids, metadata, places)
        return self._add(batches, show_progress, check_timeout(timeout), coding)

    def add_checked(self, documents: Sequence[CheckedDocument], timeout: float | None = None) -> list[str]:
        """`add` of documents that have ids and were checked at another door, such as the server's."""
        self._store.check_open()
        return self._add(iter([Batch(0, documents)]), False, check_timeout(timeout), self._codings.on())

    def long_addition(self, documents: Sequence[CheckedDocument], name: str) -> LongAddition:
        """An addition of checked documents with ids that holds the index for its commits only; see there."""
        self._store.check_writable()
        coding = self._codings.on()
        codec = functools.partial(self._current_codec, coding)
        return LongAddition(self._store, self.encoder, codec, documents, name, coding)

    def progress_of(self, name: str) -> Progress:
        """How far the long addition of that name has come; nothing where another one came since."""
        return progress_of(self._store.snapshot(), name)

    def _add(
        self, batches: Iterator[Batch], show_progress: bool, seconds: float, coding: Coding
    ) -> list[str]:
        first = next(batches, None)
        if not first:
            self._store.make()
            return []
        names: list[str] = []
        total = None if first.goes_on or self._cutting is not None else len(first)
        with self._store.writer(seconds) as writer, self._bar(total, show_progress) as bar:
            addition = Addition(writer, self._current_codec(coding), coding=coding)
            looks = self._look_at(first)
            with gathered() as tally:
                for n, batch in enumerate(itertools.chain([first], batches)):
                    named = addition.named(batch)
                    names += [document.id for document in named.documents]
                    self._encode_into(addition, named, bar, looks and n > 0)
                    del batch, named  # its texts, before the next ones are read
            addition.finish()
            self._commit(writer)
            self._warn_of_script(tally.letters)  # while other threads wait: they would say it, too
        warn_of_truncation(self.encoder, tally)
        return names

    @property
    def _cutting(self) -> Cutting | None:
        return kept_cutting(self._store.manifest.settings)

    def _bar(self, total: int | None, show: bool) -> progress_bar:
        return progress_bar(total, "index", "text" if self._cutting is None else "passage", show)

    def _look_at(self, first: Batch) -> bool:
        """Tell of a script that the model does not read, ahead of hours of work; whether later batches are
        looked at, too."""
        # Whoever gathers for himself wants to know of every addition.
        looks = not self._warned_of_script or current() is not None
        if looks:
            self._warn_of_script(_letters(self.encoder, first))
        return looks

    def _encode_into(
        self,
        addition: Addition,
        batch: Batch,
        bar: progress_bar,
        looks: bool,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        if looks:
            self._warn_of_script(_letters(self.encoder, batch))
        rows = rows_of(batch, self.encoder, self._cutting)
        pooling = kept_pooling(self._store.manifest.settings)
        addition.add(rows, EncodedTexts(self.encoder, rows, bar, pooling), between)

    def sync(
        self,
        rows: Iterable[tuple[Any, ...]],
        prune: bool | Callable[[Unlisted], bool] = False,
        dry_run: bool = False,
        show_progress: bool = False,
        timeout: float | None = None,
        commit_every: float | None = None,
        on_change: Callable[[Action, str], None] | None = None,
    ) -> SyncCounts:
        """Make the index hold a list of documents, encoding only what is new or has changed.

        A document whose text and metadata are as the index has them stays untouched. One with other metadata,
        or a text that the index has under another id (a file that was renamed), gets a copy of the vectors.
        All is one commit, unless `commit_every` says otherwise; run it again after an interruption. Documents
        that were given as vectors, or written before texts had digests, are encoded again.

        Args:
            rows: (id, text), (id, text, metadata), and behind these `place`, see `add`, and `breaks`, the
                characters before which a long text is rather cut than elsewhere; read as a stream. A text of
                None leaves that of the index as it is.
            prune: remove the documents that are not in the list; a function says it of each.
            dry_run: write nothing, only count.
            show_progress: a bar on stderr, of what is encoded.
            timeout: see `add`.
            commit_every: seconds after which what is done so far is committed, so that an interruption does
                not lose it.
            on_change: called with "added", "changed" or "removed" and the id, in the order of the work.
        Raises:
            InvalidInput: a row does not fit, an id comes twice, or a text is None for a document that the
                index does not have.
            IndexLocked, StorageFull: see `add`.
        """
        self._store.check_open()
        tell = on_change or (lambda action, id: None)
        seconds = check_timeout(timeout)
        if dry_run:
            run = Sync(self._store.snapshot().segments, None, tell)
            for documents in checked(rows):
                run.decide(documents)
            removed, missing = _prune(run, prune, None)
            return run.counts(removed, missing, 0)
        coding = self._codings.on()
        batches = checked(rows)
        first = next(batches, None)  # what cannot be read is told before anything is made
        with self._store.writer(seconds) as writer, self._bar(None, show_progress) as bar:
            codec = self._current_codec(coding)
            copies, addition = Copies(writer), Addition(writer, codec, coding=coding)
            run = Sync(self._store.snapshot().segments, copies, tell)
            pace = Pace(commit_every)

            def between() -> None:
                if pace.due():
                    addition.finish()
                    self._commit(writer)

            changed = batched(run, itertools.chain([] if first is None else [first], batches))
            begun = next(changed, None)
            looks = begun is not None and self._look_at(begun)
            with gathered() as tally:
                for n, batch in enumerate(itertools.chain([] if begun is None else [begun], changed)):
                    copies.finish()  # whose codec may be about to change
                    self._encode_into(addition, batch, bar, looks and n > 0, between)
                    del batch  # its texts, before the next ones are read
            copies.finish()
            addition.finish()
            removed, missing = _prune(run, prune, writer)
            self._commit(writer)
            if tally.n_texts:
                self._warn_of_script(tally.letters)
        self._store.make()
        if tally.n_texts:
            warn_of_truncation(self.encoder, tally)
        return run.counts(removed, missing, tally.n_truncated)

    def digests(self, ids: Sequence[str]) -> list[str | None]:
        """BLAKE2b-128, in hex, of the texts of these documents in UTF-8, as `sync` knows them.

        Returns:
            In the order of the ids; None for one that is not there, or that `sync` would encode again.
        """
        check_many(ids, "ids")
        names = check_ids(ids)
        found: dict[str, str] = {}
        for segment in self._store.snapshot().segments:
            firsts = segment.firsts_of(segment.rows_of(names))
            found |= {id: digest.hex() for id, _, digest, _ in segment.known(firsts) if digest is not None}
        return [found.get(id) for id in names]

    def update_metadata(
        self,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] | None = None,
        replace: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Change the metadata of documents in one commit; no text is encoded, no vector moves.

        Args:
            ids: of these documents; None for all.
            where: of those that pass the filter, see `search`. One of the two has to be given.
            set: fields that get these values, the others stay. A dotted name is a field inside another, where
                there is that other.
            unset: names of fields that go, as filters know them: `author.age` of each of several authors.
            replace: the whole metadata, instead of set and unset; {} for none.
            timeout: see `add`.
        Returns:
            Documents whose metadata are others now. Unknown ids are ignored.
        Raises:
            InvalidInput: neither ids nor where, nothing to change, a value that does not fit.
            IndexLocked, StorageFull: see `add`.
        """
        self._store.check_open()
        names = chosen_ids(ids, where)
        change = change_of(set, unset, replace)
        with self._store.writer(check_timeout(timeout)) as writer:
            snapshot = self._store.snapshot()
            self._check_fields(snapshot, where)
            copies = Copies(writer)
            _, n_changed = relabel(snapshot.segments, copies, change, names, where)
            copies.finish()
            self._commit(writer)
        return n_changed

    def _warn_of_script(self, letters: Letters) -> None:
        if legibility.warn(letters, self.encoder.model, silent=self._warned_of_script):
            self._warned_of_script = True

    def add_vectors(
        self,
        ids: Sequence[str] | None,
        token_vectors: TokenVectors | Iterable[npt.ArrayLike],
        texts: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        timeout: float | None = None,
        normalize: bool | None = None,
        device: str | Sequence[str] | None = None,
    ) -> list[str]:
        """Add documents whose token vectors are there already; see `add`.

        They are never cut, and their vectors are kept as they are given, in an index that pools tokens, too:
        `Encoder.pooled` pools vectors.

        Args:
            token_vectors: `TokenVectors` or one array [n_tokens, dim] a document, of the index's width and of
                unit length, which rounding may miss by a twentieth. Others are made so, which the log tells:
                an index keeps directions.
            normalize: True makes vectors unit length without a word, False refuses those that are not.
            device: see `add`.
        Raises:
            InvalidInput: see `add`; a vector is not finite or is zero, or is refused for its length.
        """
        self._store.check_open()
        coding = self._codings.on(device)
        dim, seconds = self._store.manifest.dim, check_timeout(timeout)
        vectors = as_token_vectors(token_vectors, "token_vectors", dim)
        if vectors.dim != dim:
            raise InvalidInput(f"token_vectors should have dim {dim}, got {vectors.dim}.")
        vectors = unit_vectors(vectors, "token_vectors", normalize)
        batch = one_batch(len(vectors), ids, texts, metadata)
        return self._add_given(batch, vectors, seconds, coding)

    def _add_given(self, batch: Batch, vectors: TokenVectors, seconds: float, coding: Coding) -> list[str]:
        if not batch:
            self._store.make()
            return []
        with self._store.writer(seconds) as writer:
            addition = Addition(writer, self._current_codec(coding), coding=coding)
            named = addition.named(batch)
            addition.add(named, GivenVectors(vectors))
            addition.finish()
            self._commit(writer)
        return [document.id for document in named.documents]

    def new_part(self, path: str | Path) -> Index:
        """Make an empty index with this one's model, settings and codec, to be filled elsewhere and adopted.

        It learns no centroids of its own: documents unlike those of this index, or all of them while this
        index has no codec, keep float16 vectors, from which this index learns when it adopts the part.

        Args:
            path: a folder that does not exist yet, or is empty.
        Raises:
            IndexExists: something is there already.
        """
        snapshot = self._store.snapshot()
        settings = {**snapshot.settings, PART_SETTING: True}
        store = Store.create(
            path, dim=snapshot.dim, bits=snapshot.bits, model=snapshot.model, settings=settings
        )
        if snapshot.codec is not None:
            with store.writer() as writer:
                writer.set_codec(snapshot.codec.arrays, snapshot.codec.info)
                writer.commit()
        return Index(store, self._encoder, self._load)

    def adopt(
        self,
        parts: str | Path | Iterable[str | Path],
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Take in the documents of other indexes without encoding them again, in one commit.

        Every byte of a part is checked before it is copied, and the parts stay as they are. A document whose
        id exists is replaced, so adopting a part again changes nothing. A failure leaves the index as it was.

        Args:
            parts: indexes made by `new_part` of this index, or others of the same model, dim, bits and codec,
                or folders of such that a job has left with its list of parts.
            show_progress: a bar on stderr.
            timeout: see `add`.
        Returns:
            Documents taken in.
        Raises:
            IndexNotFound: a path is neither an index nor a finished job's folder.
            IndexCorrupt: a part is damaged.
            ModelMismatch: a part was made with another model.
            InvalidInput: a part has another dim, other bits, passages or pooling, or a codec that is not this
                index's, or two parts have a document of the same id.
            IndexLocked: another process is writing.
            StorageFull: the disk is full.
        """
        folders, coding = part_folders(parts), self._codings.on()
        with self._store.writer(check_timeout(timeout)) as writer:
            total = sum(check_fit(folder, self.path, writer.manifest) for folder in folders)
            trainer = CodecTrainer(writer, self._current_codec(coding), coding=coding)
            adoption = Adoption(writer, self._store.snapshot())
            with progress_bar(total, "adopt", "text", show_progress) as bar:
                for folder in folders:
                    adoption.take(folder, bar)
            adoption.finish(folders)
            trainer.learn_waiting()
            self._commit(writer)
        return adoption.n_documents

    @staticmethod
    def _commit(writer: Writer) -> None:
        writer.tidy()
        writer.commit()

    def delete(
        self, ids: Sequence[str] | None = None, timeout: float | None = None, where: Where | None = None
    ) -> int:
        """Delete documents; says how many there were. Unknown ids are ignored.

        Args:
            ids: these documents; None for all.
            timeout: see `add`.
            where: those that pass the filter, see `search`. One of the two has to be given.
        Raises:
            InvalidInput: neither is given, ids is no list of str, or the filter cannot be read.
        """
        self._store.check_open()
        names = chosen_ids(ids, where)
        with self._store.writer(check_timeout(timeout)) as writer:
            snapshot = self._store.snapshot()
            self._check_fields(snapshot, where)
            found = writer.delete(names, where)
            writer.commit()
        return int(found)

    def compact(self, timeout: float | None = None) -> None:
        """Rewrite the segments as one a codec, without deleted documents; frees their space.

        Segments of earlier versions get the words that `mode="bm25"` goes by, cut as today, and large ones
        the lists of today.

        Args:
            timeout: see `add`.
        """
        with self._store.writer(check_timeout(timeout)) as writer:
            by_codec: dict[tuple[str | None, Any], list[str]] = {}
            for segment in writer.segments:
                by_codec.setdefault((segment.codec, segment.columns), []).append(segment.name)
            worse = {
                each.name
                for each in writer.segments
                if each.n_deleted or not each.texts.words_are_current or not each.lists_are_current
            }
            for names in by_codec.values():
                if len(names) > 1 or names[0] in worse:
                    writer.merge(names)
            writer.commit()

    def backup(self, path: str | Path, link: bool = True) -> Backup:
        """Copy the last commit to a new folder, which is an index of its own, while anyone goes on writing.

        Args:
            path: a folder that does not exist yet, or is empty; it is there when all of it is on disk.
            link: share files, which never change, with this index where the file system allows it. False:
                copy and check every byte, for a copy that does not depend on these files.
        Returns:
            Which commit it is, and how many files and bytes it has.
        Raises:
            IndexExists: something is there already.
            IndexCorrupt: a file of this index is missing, or is not what was written.
            InvalidInput: the path lies in this index's folder.
            StorageFull: the disk is full.
        """
        self._store.check_open()
        return back_up(self.path, Path(path), link)

    def _current_codec(self, coding: Coding = KERNELS) -> Codec | None:
        """The codec for new documents; None while the index has too few tokens for its residual codec.

        Args:
            coding: where it makes codes. A codec that only rounds has no use for it.
        """
        manifest = self._store.manifest
        if manifest.bits >= 8:
            return untrained(manifest.dim, manifest.bits)
        snapshot = self._store.snapshot()
        codec = None if snapshot.codec is None else self._codec(snapshot, snapshot.codec.name)
        return codec.on(coding) if isinstance(codec, ResidualCodec) else codec

    # Reading back

    def get(self, ids: Sequence[str]) -> list[Entry | None]:
        """The documents of these ids, (id, text, metadata), in this order; None for one that is not there.

        Raises:
            InvalidInput: ids is no list of str; names the position.
        """
        snapshot = self._store.snapshot()
        check_many(ids, "ids")
        return entries_of(snapshot, check_ids(ids))

    def documents(self, where: Where | None = None, ids: Sequence[str] | None = None) -> Iterator[Entry]:
        """All documents that pass the filter, (id, text, metadata), as they are at the first `next`.

        Args:
            where: see `search`.
            ids: of these documents only. Unknown ids are ignored.
        Raises:
            InvalidInput: ids is no list of str, or the filter cannot be read; names the position.
        """
        names = None if ids is None else chosen_ids(ids, where)
        snapshot = self._store.snapshot()
        self._check_fields(snapshot, where)
        yield from entries(snapshot, where, names)

    def fields(self, most: int = 100) -> list[str]:
        """Names of the fields that documents' metadata has, which filters compare; at most so many."""
        most = whole_number(most, "most")
        names = {each for segment in self._store.snapshot().segments for each in segment.texts.fields(most)}
        return sorted(names)[:most]

    def iter_documents(self, max_tokens: int = DECODE_TOKENS) -> Iterator[StoredDocuments]:
        """All documents of the index as it is now, with their token vectors, for a copy elsewhere.

        What memory holds does not grow with the index. Additions and deletions meanwhile do not show.

        Args:
            max_tokens: about so many in a block; a document with more is a block of its own.
        Yields:
            The next documents. Of an index that cuts texts: passages, of which those of one document are
            neighbours, though a block may end between them.
        Raises:
            InvalidInput: max_tokens below 1.
        """
        max_tokens = whole_number(max_tokens, "max_tokens")
        snapshot = self._store.snapshot()
        return walk(snapshot, lambda name: self._codec(snapshot, name), max_tokens)

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
    ) -> list[Hit]: ...
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
    ) -> list[Hit] | Explanation:
        """The best documents for a query, best first; ties by id.

        A document that was cut into passages comes once, with the score and the text of its best passage.

        Args:
            query: a text with at least one word.
            k: hits wanted; fewer come back when fewer documents qualify.
            where: only documents whose metadata satisfy it, e.g. 'year >= 2020 and lang = "en"' or
                {"year": {">=": 2020}, "lang": "en"}.
            exhaustive: score every document exactly. Otherwise that is done where it is expected to take no
                longer, or a few milliseconds at most (see `search.planning`); else documents are ranked by
                their centroids (in large segments only those that lists by centroid bring up), and the best
                are scored exactly until more of them change nothing. Up to k = 32 the hits of a smaller k
                begin those of a larger.
            mode: "late" by late interaction; "bm25" by the words that query and document share, without the
                model; "hybrid" by both (`search.fusion` says how). Scores of different modes do not compare.
            explain: give an `Explanation` instead: the hits, the stages with their times, which way each
                segment was searched and why, and which words of each hit matched; in mode "bm25" the words
                that the two share, each with its share of what the rarest weighs.
        Returns:
            Hits, with `confidence` where the model has a calibration and the mode is not "bm25".
        Raises:
            InvalidInput: an empty query, k below 1, no such mode, or a filter that cannot be read (names the
                position).
            IndexUnusable: mode needs words, and a part of the index was written without them.
        """
        request = Request(k, where, exhaustive, mode)
        if explain:
            return self._explained(check_query(query), request, Trace(True))
        return self._search([query], request)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
    ) -> list[list[Hit]]:
        """`search` for several queries over one state of the index, as many at once as there are threads."""
        return self._search(queries, Request(k, where, exhaustive, mode))

    def search_vectors(
        self, matrix: npt.ArrayLike, k: int = 10, where: Where | None = None, exhaustive: bool = False
    ) -> list[Hit]:
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
    ) -> list[list[Hit]]:
        """`search_many` with the token vectors of each query."""
        request = Request(k, where, exhaustive)
        if isinstance(matrices, np.ndarray) and matrices.ndim == 2:
            raise InvalidInput(
                "matrices should be a list of matrices, one a query, got one. Put it in a list."
            )
        queries = [(as_matrix(matrix, f"matrices[{i}]"), "") for i, matrix in enumerate(matrices)]
        return self._find_all(queries, request)

    def _search(self, queries: Sequence[str], request: Request) -> list[list[Hit]]:
        check_many(queries, "queries")
        queries = [check_query(query) for query in queries]
        matrices: Iterable[Float32 | None] = itertools.repeat(None, len(queries))
        calibration = None
        if request.mode != "bm25":
            matrices, calibration = self.encoder.encode_queries(queries), self.encoder.calibration
        return self._find_all(list(zip(matrices, queries, strict=True)), request, calibration)

    def _find_all(
        self,
        queries: Sequence[tuple[Float32 | None, str]],
        request: Request,
        calibration: Calibration | None = None,
    ) -> list[list[Hit]]:
        """One query on all threads; several side by side, each on a thread of its own."""
        snapshot = self._snapshot(request)

        def find(query: Query, number: int) -> list[Hit]:
            return read_hits(query.find(request), queries[number][0], calibration)

        return self._each(snapshot, queries, find)

    def _each(
        self,
        snapshot: Snapshot,
        queries: Sequence[tuple[Float32 | None, str]],
        work: Callable[[Query, int], T],
        wholes: Sequence[Whole] | None = None,
        trace: Trace = _UNTRACED,
    ) -> list[T]:
        """What `work` makes of each query and its number.

        Args:
            queries: vectors, None where words alone are asked for, and text of each.
            wholes: see `Query`; one each.
        """
        threads = self._threads()
        batch = self._batch(snapshot, [matrix for matrix, _ in queries])
        codec_of = functools.partial(self._codec, snapshot)

        def one(number: int, threads: int) -> T:
            matrix, text = queries[number]
            on_device = None if batch is None else (batch, number)
            whole = None if wholes is None else wholes[number]
            query = Query(snapshot, codec_of, matrix, text, threads, trace, on_device, whole)
            return work(query, number)

        if len(queries) <= 1 or threads == 1:
            return [one(number, threads) for number in range(len(queries))]
        with ThreadPoolExecutor(min(threads, len(queries)), thread_name_prefix="latebolt-search") as workers:
            return list(workers.map(one, range(len(queries)), itertools.repeat(1)))

    def _batch(self, snapshot: Snapshot, matrices: Sequence[Float32 | None]) -> QueryBatch | None:
        """Queries that devices score together; None where codes are on the CPU, or words alone count."""
        wanted = [matrix for matrix in matrices if matrix is not None]
        if not self._devices.wanted or not wanted:
            return None
        return QueryBatch(self._devices, snapshot, functools.partial(self._codec, snapshot), wanted)

    def _explained(self, query: str, request: Request, trace: Trace) -> Explanation:
        matrix, calibration = None, None
        if request.mode != "bm25":
            encoder = self.encoder
            with trace.stage("encode the query"):
                matrix, calibration = encoder.encode_queries([query])[0], encoder.calibration
        snapshot = self._snapshot(request)
        [found] = self._each(
            snapshot, [(matrix, query)], lambda each, number: each.find(request), trace=trace
        )
        with trace.stage("read texts", len(found)):
            hits = read_hits(found, matrix, calibration)
        # What of a text is not read was told when it was added.
        with trace.stage("align words", len(hits)), gathered():
            counts = count_words(snapshot.segments, query)
            if matrix is None:
                weights = word_weights(counts, query)
                tokens = [match_words_of(query, hit.text or "", weights) for hit in hits]
            else:
                stored = functools.partial(stored_vectors, codec_of=functools.partial(self._codec, snapshot))
                pooling = kept_pooling(snapshot.settings)
                tokens = match_hits(
                    self.encoder, (query, matrix), hits, lambda place: stored(found[place]), pooling
                )
                shares = word_shares(counts, query, LEAST_TEXTS)
                tokens = [without_common(query, matches, shares) for matches in tokens]
            words = [match_words(query, hit.text or "", m) for hit, m in zip(hits, tokens, strict=True)]
        return Explanation(hits, trace.stages, words, tokens, trace.roads)

    def _snapshot(self, request: Request) -> Snapshot:
        snapshot = self._store.snapshot()
        self._check_fields(snapshot, request.where)
        return snapshot

    def _check_fields(self, snapshot: Snapshot, where: Where | None) -> None:
        check_fields(snapshot.segments, where)

    def _threads(self) -> int:
        return (self._encoder.threads if self._encoder else self._load.get("threads")) or available_cpus()

    def _codec(self, snapshot: Snapshot, name: str | None) -> Codec:
        key, stored = name or "", None if name is None else snapshot.codecs[name]
        # Compared and not only looked up: someone may have put another index at this path.
        known = self._codecs.get(key)
        if known is None or known[0] is not stored:
            if stored is None:
                codec = untrained(snapshot.dim, snapshot.bits if snapshot.bits >= 8 else 16)
            else:
                codec = restored(stored, snapshot.dim)
            known = stored, codec
            # Those that the index has dropped go: their centroids would stay mapped and their files on disk.
            kept = {
                name: each
                for name, each in list(self._codecs.items())
                if each[0] is None or each[0] is snapshot.codecs.get(name)
            }
            self._codecs = {**kept, key: known}
        return known[1]

    def info(self) -> dict[str, Any]:
        """Figures of the index, for people and programs: documents, tokens, bytes, model, codec.

        `passages` are the texts encoded: more than the documents where these were cut. `truncated` are the
        documents whose end the model did not read; None where the index is older than this count.
        """
        snapshot = self._store.snapshot()
        codec = snapshot.codec
        trained = None if codec is None else self._codec(snapshot, codec.name)
        plain = untrained(snapshot.dim, snapshot.bits if snapshot.bits >= 8 else 16)
        return {
            "path": self._store.place,
            "documents": snapshot.n_documents,
            "tokens": snapshot.n_tokens,
            "segments": len(snapshot.segments),
            "passages": sum(int(np.count_nonzero(segment.alive)) for segment in snapshot.segments),
            "deleted": sum(segment.count_documents(~segment.alive) for segment in snapshot.segments),
            "truncated": _n_truncated(snapshot),
            **self._settings(snapshot),
            "centroids": None if codec is None else len(codec.arrays["centroids"]),
            "bytes_per_token": (trained or plain).bytes_per_token(),
            "bytes": snapshot.n_bytes,
            "generation": snapshot.generation,
            "model": None if snapshot.model is None else snapshot.model.source,
            "precision": None if snapshot.model is None else snapshot.model.precision,
        }


def _check_encoder(encoder: object) -> None:
    if isinstance(encoder, str | Path):
        raise InvalidInput(f"encoder should be an Encoder: Encoder.load({str(encoder)!r}).")


def _prune(run: Sync, prune: bool | Callable[[Unlisted], bool], writer: Writer | None) -> tuple[int, int]:
    """Documents removed, and those that stay though they were not in the list."""
    removed = missing = 0
    for some in run.unlisted():
        gone = [each.id for each in some if (prune(each) if callable(prune) else prune)]
        if writer is not None:
            writer.delete(gone)
        run.removed(gone)
        removed, missing = removed + len(gone), missing + len(some) - len(gone)
    return removed, missing


def _letters(encoder: Encoder, batch: Batch) -> Letters:
    """A sample of a batch's letters, and what the model does not read of it."""
    return encoder.legibility(CheckedTexts(legibility.sampled(batch.texts)))


def _n_truncated(snapshot: Snapshot) -> int | None:
    if not snapshot.settings.get(COUNTS_TRUNCATED):
        return None
    return sum(segment.n_truncated for segment in snapshot.segments)


def _opened(path: str | Path, encoder: Encoder | None, load: Mapping[str, Any]) -> Index:
    """What a pickle of an index is read by."""
    return Index.open(path, encoder, **load)
