"""`RemoteStore`: the store of an index that was opened by a URI; read-only, follows what is published there.

It reads a copy on this machine (`local_copy`). A search never waits for the network: when it is time to look
for a newer commit, a thread does, and searches go on with the one that is here until the other is, whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from latebolt.errors import (
    IndexCorrupt,
    IndexNotFound,
    IndexReadOnly,
    InvalidInput,
    LateboltError,
    ObjectStoreError,
)
from latebolt.index.format import layout
from latebolt.index.store.store import Snapshot, Store, Writer
from latebolt.objects.local_copy import Head, LocalCopy
from latebolt.objects.object_store import ObjectStore

logger = logging.getLogger(__name__)

_TRIES: Final = 10  # changes of the folder that may overtake one look
_LEAVING_SECONDS: Final = 60.0  # that closing waits for pieces on their way


class RemoteStore(Store):
    """An index at a URI. Made by `open_at`; threads may share it."""

    def __init__(
        self, uri: str, objects: ObjectStore, copy: LocalCopy, every: float | None, head: Head
    ) -> None:
        super().__init__(copy.path_of(head))
        self._uri, self._objects, self._copy, self._every = uri, objects, copy, every
        self._reading: BinaryIO | None = copy.reading(head)
        self._looked, self._thread = time.monotonic(), _no_thread()
        self._starting = threading.Lock()
        self._complained = False

    @classmethod
    def open_at(
        cls,
        uri: str,
        cache: str | os.PathLike[str] | None = None,
        refresh: float | None = 60.0,
        show_progress: bool = False,
        objects: ObjectStore | None = None,
    ) -> RemoteStore:
        """Open the newest commit at a URI; see `Index.open`.

        Where the store cannot be reached, the copy that is here is opened, which the log tells.

        Args:
            objects: what the URI is asked with; made of it by default.
        Raises:
            ObjectStoreError: the store cannot be reached, and there is no copy here.
            IndexNotFound: nothing is published there.
            IndexCorrupt: what is published is damaged.
            StorageFull: there is no room for it here.
            InvalidInput: refresh is not a number of seconds.
        """
        if refresh is not None and (isinstance(refresh, bool) or not refresh >= 0):
            raise InvalidInput(
                f"refresh should be None or a number of seconds of at least 0, got {refresh!r}."
            )
        objects = ObjectStore(uri) if objects is None else objects
        copy = LocalCopy.of(uri, cache)
        try:
            head = copy.follow(objects, show_progress=show_progress)
        except ObjectStoreError as error:
            head = copy.head()
            if head is None:
                raise
            logger.warning(
                "%s Commit %d, which was copied earlier, is searched meanwhile.", error, head.number
            )
        assert head is not None  # it was waited for
        store = cls(uri, objects, copy, refresh, head)
        try:
            try:
                store.snapshot()
            except IndexCorrupt as error:  # of this disk
                logger.warning("%s It is copied again.", error)
                copy.follow(objects, verify=True, show_progress=show_progress)
                store._switch()
                store.snapshot()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def place(self) -> str:
        """The URI, without passwords."""
        return self._objects.uri

    @property
    def address(self) -> tuple[str | Path, dict[str, Any]]:
        """See `Store.address`."""
        return self._uri, {"cache": str(self._copy.folder.parent), "refresh": self._every}

    def snapshot(self) -> Snapshot:
        """The commit that is here; sees to it that somebody looks for a newer one when it is time."""
        self._look()
        for _ in range(_TRIES):
            try:
                return super().snapshot()
            except IndexNotFound:
                if not self._switch():
                    raise
        return super().snapshot()

    def refresh(self) -> bool:
        """See `Index.refresh`."""
        self.check_open()
        before = self.path, self._head
        self._copy.follow(self._objects, between=self.check_open)
        self._looked, self._complained = time.monotonic(), False
        self._switch()
        self.snapshot()
        return (self.path, self._head) != before

    def _look(self) -> None:
        """Begin a look for a newer commit if it is time and none is going on."""
        if self._every is None or self.closed or time.monotonic() - self._looked < self._every:
            return
        if self._starting.acquire(blocking=False):
            try:
                if not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._follow, name="latebolt-objects-look", daemon=True
                    )
                    self._thread.start()
            finally:
                self._starting.release()

    def _follow(self) -> None:
        try:
            # Whoever copies meanwhile does it for all who share the copy.
            self._copy.follow(self._objects, wait=0.0, between=self.check_open)
            self._switch()
            self._complained = False
        except (LateboltError, OSError) as error:
            if not self.closed and not self._complained:  # once, until it is over
                self._complained = True
                logger.warning("%s Searches go on with the commit that is here.", error)
        finally:
            self._looked = time.monotonic()

    def _switch(self) -> bool:
        """Read in the folder where the newest commit is; whether that is another one than before."""
        head = self._copy.head()
        if head is None or (path := self._copy.path_of(head)) == self.path:
            return False
        reading = self._copy.reading(head)
        with self._lock:
            before, self._reading = self._reading, reading
            self.path, self._head = path, None
            self._manifest_path = os.path.join(path, layout.MANIFEST)  # noqa: PTH118 - as in Store
        if before is not None:
            before.close()
        return True

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        self.check_open()
        self._refuse()

    @contextlib.contextmanager
    def writer(self, timeout: float = 0.0) -> Iterator[Writer]:
        """Refused: a copy changes only with what it is a copy of."""
        self.check_writable()
        yield self._refuse()

    def make(self, timeout: float = 0.0) -> None:
        """Refused, see `writer`."""
        self.check_writable()

    def _refuse(self) -> NoReturn:
        raise IndexReadOnly(
            f"{self.place}: was opened by its URI, and is read-only. Change the index that was published "
            "there, and publish it again."
        )

    def close(self) -> None:
        """See `Store.close`; waits until nothing of it uses the network."""
        self.closed = True
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_LEAVING_SECONDS)
        super().close()
        if self._reading is not None:
            self._reading.close()


def _no_thread() -> threading.Thread:
    """One that never runs."""
    return threading.Thread()
