"""Named indexes in the data folder: made, listed, described, deleted, changed and searched.

A name is checked against one pattern before anything meets the file system. One thread of one process writes
to an index at a time: threads of this process take turns, another process's writer is waited for. Readers see
whole commits, and notice a new one, made by whichever process, at their next search.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from latebolt import system
from latebolt.encoder import legibility
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import Letters, Tally, gathered
from latebolt.errors import IndexCorrupt, IndexExists, IndexLocked, IndexNotFound, InvalidInput, LateboltError
from latebolt.hits import Explanation
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format import files, layout
from latebolt.index.format.lock import writer_lock
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.format.mmap_array import RESTORE
from latebolt.index.index import Index
from latebolt.index.ingest.long_addition import Progress
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import count_truncated, count_unread_script, current_ticket
from latebolt.serve.problems import STATES, IndexState, Problem, data_missing, foreign, problem_of
from latebolt.serve.settings import INDEX_NAME
from latebolt.serve.state.holdings import Added, Found, Wanted

_RETRY_SECONDS: Final = 0.05  # between two looks at another process's lock
_GIVE_UP_SECONDS: Final = 20.0
_DELETED: Final = ".deleted-"  # no index's name begins with a dot


class Indexes:
    """The indexes of a folder, and those that lie elsewhere. Thread-safe.

    Args:
        encoder_of: the encoder of a width.
        given: name -> folder of an index that lies elsewhere, or the URI where one is published, which is
            read-only; it hides one of that name in the folder.
    """

    def __init__(
        self,
        folder: Path,
        encoder_of: Callable[[int], Encoder],
        given: Mapping[str, Path | str] | None = None,
    ) -> None:
        self._folder, self._encoder_of, self._given = folder, encoder_of, dict(given or {})
        self._open: dict[str, tuple[object, Index]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._warned_of_script: set[str] = set()  # names of indexes, each warned of once
        self._lock = threading.Lock()
        self._known_states: dict[str, tuple[object, tuple[IndexState, str]]] = {}

    def create(
        self,
        name: str,
        dim: int,
        bits: int,
        passage_tokens: int | None,
        passage_overlap: int | None,
        pool_factor: int = 1,
        max_vectors: int | None = None,
    ) -> dict[str, Any]:
        """Make an empty index and describe it; an overlap is cut to what passages have room for.

        Raises:
            IndexExists: there is one of that name.
            Problem: 409, there is one that cannot be used, or something else; 503, the data folder is gone.
            InvalidInput: passage_tokens or max_vectors does not fit the model, or the system keeps the name
                for a device.
        """
        if not system.takes_name(name):
            raise InvalidInput(f'"{name}" is the name of a device on this system. Choose another one.')
        path, overlap = self._path(name), passage_overlap
        if overlap is not None:
            overlap = None if passage_tokens is None else min(overlap, passage_tokens - 1)
        with self._writing(name):
            if os.path.lexists(path):
                raise self._taken(name)
            # Made aside and moved: an index of that name is never half there.
            draft = self._folder / f"{_DELETED}{uuid.uuid4().hex}"
            try:
                _make_within(self._folder, draft)
                Index.create(
                    draft,
                    self._encoder_of(dim),
                    bits,
                    passage_tokens=passage_tokens,
                    passage_overlap=overlap,
                    pool_factor=pool_factor,
                    max_vectors=max_vectors,
                ).close()
                draft.rename(path)
                files.sync_folder(self._folder)
            except OSError as error:
                if os.path.lexists(path):
                    raise self._taken(name) from error
                raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return self.describe(name)

    def _taken(self, name: str) -> Exception:
        """Why no index of that name can be made."""
        try:
            self.get(name)
        except IndexNotFound:  # deleted just now, or a file
            pass
        except LateboltError as error:
            problem = problem_of(error)
            if problem.code in STATES:
                said = f"there is something of that name already: {problem.detail}"
                return Problem(409, said, problem.code)
        return IndexExists("there is an index of that name already.")

    def names(self) -> list[str]:
        """Names of all indexes.

        Raises:
            Problem: 503, the data folder is gone.
        """
        try:
            own = {p.name for p in self._folder.iterdir() if INDEX_NAME.match(p.name) and p.is_dir()}
        except FileNotFoundError as error:
            raise data_missing() from error
        return sorted(own | self._given.keys())

    def describe(self, name: str) -> dict[str, Any]:
        """An index in figures."""
        return described(name, self.get(name).info())

    def all(self) -> list[dict[str, Any]]:
        """All indexes in figures; of those that cannot be used, their state and what to do."""
        found = []
        for name in self.names():
            try:
                found.append(self.describe(name))
            except IndexNotFound:  # deleted meanwhile
                continue
            except LateboltError as error:
                state, detail = state_of(error)
                found.append({"name": name, "object": "index", "state": state, "detail": detail})
        return found

    def states(self) -> dict[str, tuple[IndexState, str]]:
        """The state of each index, and what to do where that is not "ready"; looks at what has changed."""
        found: dict[str, tuple[IndexState, str]] = {}
        for name in self.names():
            stamp = _stamp(self._path(name) / layout.MANIFEST)
            before, state = self._known_states.get(name, (None, None))
            if state is None or stamp is None or before != stamp:
                state = self._state(name)
            if state is not None:
                found[name] = state
                self._known_states[name] = stamp, state
        for name in self._known_states.keys() - found.keys():
            self._known_states.pop(name, None)
        return found

    def _state(self, name: str) -> tuple[IndexState, str] | None:
        """State of an index, and what to do; None where it has gone."""
        try:
            self._opened(self._path(name)).close()
        except IndexNotFound:
            return None
        except LateboltError as error:
            return state_of(error)
        return "ready", ""

    def delete(self, name: str, ending: Callable[[], None] = lambda: None) -> None:
        """Delete an index with all it holds.

        Args:
            ending: called before it goes, with the index in hand, and again when it has gone: what is still
                to be written to it may be given up.
        Raises:
            IndexNotFound: there is none.
            Problem: 409, it lies elsewhere, or is no index, and is not the server's to delete.
        """
        path = self._path(name)
        if name in self._given:
            raise Problem(
                409, "the index was given to the server when it was started. Start it without.", "index_given"
            )
        with self._writing(name):
            aside = self._folder / f"{_DELETED}{uuid.uuid4().hex}"
            if not path.is_dir():
                raise IndexNotFound("there is no index of that name.")
            if _is_foreign(path):
                raise foreign()

            def move_aside() -> None:
                with writer_lock(path):
                    ending()
                    path.rename(aside)

            self._with_retries(move_aside)
            ending()  # also of what was begun between the two
            self._forget(name)
        shutil.rmtree(aside, ignore_errors=True)
        metrics.forget(metrics.DOCUMENTS, name)

    def add(self, name: str, documents: Sequence[CheckedDocument]) -> Added:
        """Add or replace documents in one commit, which is on disk when this returns."""
        with self._writing(name), metrics.stage("write"):
            index = self.get(name)

            def write() -> tuple[list[str], Tally]:
                with gathered() as tally:
                    return index.add_checked(documents), tally

            ids, tally = self._with_retries(write)
            self._count(name, index, tally.n_truncated, tally.letters)
            metrics.show(metrics.DOCUMENTS, len(index), name)
        return Added(ids, tally.n_truncated, tally.letters.are_mostly_unread)

    def add_long(
        self,
        name: str,
        documents: Sequence[CheckedDocument],
        addition: str,
        wanted: Callable[[], None],
        committed: Callable[[Progress], None],
    ) -> Added:
        """Add or replace documents in several commits, and keep nobody waiting while they are encoded.

        Args:
            addition: its name, by which it goes on after an interruption.
            wanted: called again and again; raises to give up what is not committed.
            committed: called at the beginning, as an earlier run may have come so far, and after each commit.
        Returns:
            No ids.
        Raises:
            IndexNotFound: the index was not there, or went.
        """
        index = self.get(name)
        work = index.long_addition(documents, addition)
        committed(work.progress)
        while work.encode(wanted):
            with self._writing(name), metrics.stage("write"):
                if self.get(name) is not index:
                    raise IndexNotFound("the index was deleted, and there is another one of that name.")
                self._with_retries(lambda: work.commit(wanted), math.inf)
                metrics.show(metrics.DOCUMENTS, len(index), name)
            committed(work.progress)
        self._count(name, index, work.progress.truncated, work.letters)
        return Added([], work.progress.truncated, work.letters.are_mostly_unread)

    def progress(self, name: str, addition: str) -> Progress:
        """How far a long addition has come, whichever process ran it.

        Raises:
            IndexNotFound: there is no such index.
        """
        return self.get(name).progress_of(addition)

    def _count(self, name: str, index: Index, truncated: int, letters: Letters) -> None:
        count_truncated("document", truncated)
        if letters.are_mostly_unread:
            count_unread_script()
            self._warn_of_script(name, letters, index.encoder.contract.name)

    def _warn_of_script(self, name: str, letters: Letters, model: str) -> None:
        if name not in self._warned_of_script:
            self._warned_of_script.add(name)
            share, way_out = round(letters.unread / letters.n, 3), legibility.way_out(model)
            log.event(
                "script not read", logging.WARNING, index=name, model=model, share=share, way_out=way_out
            )

    def remove(self, name: str, ids: Sequence[str] | None, where: Where | None = None) -> int:
        """Delete documents; says how many of them there were.

        Raises:
            InvalidInput: the filter does not fit.
        """
        with self._writing(name), metrics.stage("write"):
            index = self.get(name)
            found: int = self._with_retries(lambda: index.delete(ids, where=where))
            metrics.show(metrics.DOCUMENTS, len(index), name)
        return found

    def update(
        self, name: str, ids: Sequence[str] | None, where: Where | None, change: Mapping[str, Any]
    ) -> int:
        """Change documents' metadata as `Index.update_metadata` does; says of how many.

        Raises:
            InvalidInput: the filter or the change does not fit.
        """
        with self._writing(name), metrics.stage("write"):
            index = self.get(name)
            updated: int = self._with_retries(lambda: index.update_metadata(ids, where, **change))
        return updated

    def read(self, name: str, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Documents by their ids, None for one that is not there."""
        found = self.get(name).get(ids)
        return [None if each is None else each._asdict() for each in found]

    def search(self, name: str, queries: Sequence[str], wanted: Wanted) -> list[Found]:
        """The best documents for each query, over one state of the index.

        Raises:
            InvalidInput: the filter does not fit.
        """
        where = msgspec.json.decode(wanted.where)
        found = self.get(name).search_many(queries, wanted.k, where, wanted.exhaustive, wanted.mode)
        return [Found(hits) for hits in found]

    def explain(self, name: str, query: str, wanted: Wanted) -> tuple[Explanation, tuple[int, ...]]:
        """The best documents for a query and how they came about.

        Raises:
            InvalidInput: the filter does not fit.
        """
        where = msgspec.json.decode(wanted.where)
        index = self.get(name)
        return index.search(query, wanted.k, where, wanted.exhaustive, wanted.mode, explain=True), ()

    def check(self, name: str) -> object:
        """See `get`."""
        return self.get(name)

    def get(self, name: str) -> Index:
        """An open index.

        Raises:
            IndexNotFound: there is none of that name.
            ModelMismatch: it was made with another model.
            IndexNewer, IndexCorrupt, IndexInaccessible: it cannot be used.
            Problem: 409, the folder of that name holds no index, or one of a width that the model has not.
        """
        uri = self._given.get(name)
        if isinstance(uri, str):
            return self._published(name, uri)
        path = self._path(name)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            self._forget(name)
            raise IndexNotFound("there is no index of that name.") from error
        # Another process may have deleted it and made another one of that name.
        stamp = (status.st_dev, status.st_ino)
        with self._lock:
            held = self._open.get(name)
        is_same = held is not None and held[0] == stamp and (path / layout.MANIFEST).exists()
        if held is not None and is_same and held[1].dim == held[1].encoder.dim:
            return held[1]
        index = self._opened(path)
        with self._lock:
            self._open[name] = stamp, index
        return index

    def _published(self, name: str, uri: str) -> Index:
        """The index at a URI, which follows what is published there by itself."""
        with self._lock:
            held = self._open.get(name)
        if held is not None and held[1].dim == held[1].encoder.dim:
            return held[1]
        index = self._opened(uri)
        with self._lock:
            self._open[name] = uri, index
        return index

    def _opened(self, path: Path | str) -> Index:
        try:
            with Index.open(path, refresh=None) as found:
                width = found.dim
        except IndexNotFound:
            if isinstance(path, str) or not path.is_dir():
                raise
            if _is_foreign(path):
                raise foreign() from None
            raise IndexCorrupt(path / layout.MANIFEST, "existence", "a file", "nothing", RESTORE) from None
        except IndexCorrupt:
            if not isinstance(path, str) and _is_foreign(path):
                raise foreign() from None
            raise
        try:
            encoder = self._encoder_of(width)
        except Problem as error:
            raise Problem(409, "the index has a width that this model has not.", "model_mismatch") from error
        return Index.open(path, encoder)

    def close(self) -> None:
        """Release all indexes."""
        with self._lock:
            for _, index in self._open.values():
                index.close()
            self._open.clear()

    def sweep(self) -> None:
        """Remove what deletions and creations that were cut short have left. For the time before a start."""
        for left in self._folder.glob(f"{_DELETED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def place_of(self, name: str) -> Path:
        """The folder of an index, whether or not it is there.

        Raises:
            IndexNotFound: that is no name of an index.
        """
        return self._path(name)

    def _path(self, name: str) -> Path:
        if not INDEX_NAME.match(name):
            raise IndexNotFound("there is no index of that name.")
        place = self._given.get(name, self._folder / name)
        return self.get(name).path if isinstance(place, str) else place

    def _forget(self, name: str) -> None:
        with self._lock:
            self._open.pop(name, None)
            self._warned_of_script.discard(name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        # Looked at again and again, so that a request that is given up does not keep its thread waiting.
        while not lock.acquire(timeout=_RETRY_SECONDS):
            check_wanted()
        try:
            check_wanted()
            yield
        finally:
            lock.release()

    @staticmethod
    def _with_retries(write: Callable[[], Any], seconds: float = _GIVE_UP_SECONDS) -> Any:
        """Write, or wait until the other process that does has finished.

        Raises:
            IndexLocked: it takes too long.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                return write()
            except IndexLocked:
                if time.monotonic() > end:
                    raise
            check_wanted()
            time.sleep(_RETRY_SECONDS)


def _make_within(folder: Path, draft: Path) -> None:
    """Make a folder, and nothing above it.

    Raises:
        Problem: 503, there is nothing above it any more.
    """
    try:
        draft.mkdir()
    except FileNotFoundError as error:
        raise data_missing() from error


def _is_foreign(path: Path) -> bool:
    """Whether a folder holds neither an index nor parts of one."""
    try:
        read_manifest(path)
    except IndexNotFound:
        # A copy that was cut short has files of an index, whose manifest comes last.
        return not any((path / name).is_dir() for name in (layout.SEGMENTS, layout.CODECS))
    except IndexCorrupt as error:
        return error.field == "format"
    except LateboltError:
        return False
    return False


def described(name: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """An index in figures, of what it says of itself; the figure of its documents is brought up to date."""
    metrics.show(metrics.DOCUMENTS, info["documents"], name)
    kept = (
        "documents",
        "passages",
        "tokens",
        "bytes",
        "deleted",
        "generation",
        "bits",
        "passage_tokens",
        "passage_overlap",
        "pool_factor",
        "max_vectors",
        "precision",
    )
    model = info["model"] and Path(info["model"]).name  # a folder's place is nobody's business
    return {
        "name": name,
        "object": "index",
        "state": "ready",
        "dimensions": info["dim"],
        "model": model,
        **{key: info[key] for key in kept},
    }


def state_of(error: LateboltError) -> tuple[IndexState, str]:
    """The state of an index that cannot be used, and what to do.

    Raises:
        LateboltError: the same, if it is not about the index.
    """
    problem = problem_of(error)
    if problem.code not in STATES:
        raise error
    return STATES[problem.code], problem.detail


def _stamp(path: Path) -> object:
    """What tells a file from what it was before; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_wanted() -> None:
    """Raise CancelledError where the request that this is done for was given up."""
    ticket = current_ticket.get()
    if ticket is not None and ticket.is_cancelled:
        raise CancelledError
