"""Snapshots of indexes: copies of a last commit in a folder of the server's, made while writers work.

A snapshot is an index of its own, at FOLDER/INDEX/SNAPSHOT; requests give names, never places. It outlives
its index. What a snapshot that was cut short has left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from latebolt.drafts import BeingMade, remove_leftovers
from latebolt.errors import IndexExists, IndexNotFound, LateboltError
from latebolt.index.format import layout
from latebolt.index.index import Index
from latebolt.index.store.backup import back_up
from latebolt.serve import log
from latebolt.serve.problems import STATES, Problem, folder_missing, problem_of
from latebolt.serve.settings import INDEX_NAME
from latebolt.serve.state.indexes import check_wanted

_REMOVED: Final = ".deleted-"  # no name begins with a dot
_TRIES: Final = 100  # names of one second
_FIGURES: Final = ("documents", "bytes", "generation")
_UNKNOWN: Final = dict.fromkeys(("created", *_FIGURES))


class Snapshots:
    """The snapshots in a folder. Thread-safe, beside other processes too.

    Args:
        folder: made before; one that has gone since is not made again.
        place_of: the folder of an index.
    """

    def __init__(self, folder: Path, place_of: Callable[[str], Path]) -> None:
        self._folder, self._place_of = folder, place_of

    def make(self, index: str, name: str | None) -> dict[str, Any]:
        """Copy an index's last commit and describe the copy.

        Args:
            name: of the snapshot; the time by default.
        Raises:
            IndexNotFound: there is no such index.
            Problem: 409, there is a snapshot of that name; 503, the folder of snapshots is gone.
            CancelledError: the request was given up; nothing is left.
        """
        place = self._place_of(index)
        if not place.is_dir():
            raise IndexNotFound("there is no index of that name.")
        try:
            (self._folder / index).mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise folder_missing("snapshots", "snapshots_missing") from error
        wanted = [name] if name is not None else _names_of_now()
        for each in wanted:
            path = self._folder / index / each
            try:
                made = back_up(place, path, between=check_wanted)
            except (IndexExists, BeingMade):
                continue
            log.event("snapshot", index=index, snapshot=each, bytes=made.bytes, linked=made.linked)
            return self._described(path)
        raise Problem(409, "there is a snapshot of that name already.", "snapshot_exists")

    def all(self) -> list[dict[str, Any]]:
        """All snapshots, by index and name."""
        described = [(path, self._described(path)) for path in self._paths()]
        return [record for path, record in described if path.is_dir()]  # others were removed meanwhile

    def remove(self, index: str, name: str) -> None:
        """Remove a snapshot.

        Raises:
            Problem: 404, there is none.
        """
        path = self._folder / index / name
        aside = self._folder / f"{_REMOVED}{uuid.uuid4().hex}"
        try:
            if not INDEX_NAME.match(index) or not INDEX_NAME.match(name):
                raise FileNotFoundError
            path.rename(aside)
        except (FileNotFoundError, NotADirectoryError):
            raise Problem(404, "there is no snapshot of that name.", "snapshot_not_found") from None
        log.event("snapshot removed", index=index, snapshot=name)
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # of others of the index
            path.parent.rmdir()

    def sweep(self) -> None:
        """Remove what was cut short. For the time before a start."""
        for left in self._folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for folder in self._folder.glob("*"):
            remove_leftovers(folder)

    def _paths(self) -> list[Path]:
        found = self._folder.glob("*/*")
        return sorted(p for p in found if INDEX_NAME.match(p.name) and INDEX_NAME.match(p.parent.name))

    def _described(self, path: Path) -> dict[str, Any]:
        named = {"object": "snapshot", "index": path.parent.name, "name": path.name}
        try:
            with Index.open(path) as index:
                info = index.info()
            created = (path / layout.MANIFEST).stat().st_mtime
        except FileNotFoundError:  # IndexNotFound is one
            return {**named, "state": "foreign", **_UNKNOWN}
        except LateboltError as error:
            code = problem_of(error).code
            if code not in STATES:
                raise
            return {**named, "state": STATES[code], **_UNKNOWN}
        figures = {key: info[key] for key in _FIGURES}
        return {**named, "state": "ready", "created": created, **figures}


def _names_of_now() -> list[str]:
    now = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime())
    return [now, *(f"{now}-{n}" for n in range(2, _TRIES))]
