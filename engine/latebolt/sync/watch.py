"""Keeps an index in line with folders while they change: one run for each burst of changes.

`Interest` decides which changes matter and `Burst` when there has been enough of them; `FolderWatcher` asks
the system for changes, and `Follower` makes the runs.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from latebolt.corpus.files import Skipped, SourceFile, is_left_out, sources_of
from latebolt.corpus.readers.kinds import kind_of_name
from latebolt.errors import IndexLocked, IndexUnusable, LateboltError, StorageFull
from latebolt.index.format.lock import writer_lock
from latebolt.index.ingest.sync import SyncCounts
from latebolt.sync.file_records import absolute
from latebolt.sync.folder_sync import FolderSync, is_there

if TYPE_CHECKING:
    from watchfiles.main import FileChange

    from latebolt.index.index import Index

LONGEST: Final = 10  # times the quiet that ends a burst: so long may one be
_TICK: Final = 0.8  # seconds between two looks at what no event tells
_LOCKED, _FULL = 1.0, 60.0  # seconds after which a run that found no lock, or no space, is tried again
_POLL_MS: Final = 10_000  # between two looks at all files, where the system tells of no changes

State = tuple[int, ...] | None
What = Literal["file", "folder", "gone"]


@dataclass
class Burst:
    """Says when a burst of changes has ended.

    Args:
        quiet: seconds without a change that end it.
        longest: seconds after which it counts as ended, whatever still changes.
    """

    quiet: float
    longest: float
    _first: float | None = None
    _last: float = 0.0

    def met(self, now: float) -> None:
        """A change was seen."""
        self._first = now if self._first is None else self._first
        self._last = now

    def due(self, now: float) -> bool:
        """Whether there was one, and it has ended."""
        return self._first is not None and (
            now - self._last >= self.quiet or now - self._first >= self.longest
        )

    def taken(self) -> None:
        """What changes from here on belongs to the next one."""
        self._first = None


@dataclass(frozen=True)
class Interest:
    """Which changes may alter what an index holds.

    Args:
        roots: the folders that are followed, as absolute paths.
        own: the index, by each of its paths: what it writes is no change of theirs.
        folders: where files were found so far. Of something that is gone nobody can say what it was.
        left_out: whether .gitignore files leave out what lies below a root.
    """

    roots: Sequence[str]
    own: Sequence[str]
    folders: Collection[str] = ()
    left_out: Callable[[str, str, bool], bool] = lambda root, path, is_folder: False

    def matters(self, path: str, what: What) -> bool:
        """Whether it may alter something that this path has changed."""
        if any(path == own or _is_below(path, own) for own in self.own):
            return False
        return any(self._matters_to(root, path, what) for root in self.roots if _is_below(path, root))

    def _matters_to(self, root: str, path: str, what: What) -> bool:
        *above, name = Path(path[len(root) :].lstrip(os.sep)).parts
        if any(each.startswith(".") for each in above):
            return False
        if name == ".gitignore":
            return True
        if name.startswith("."):
            return False
        is_folder = what == "folder" or path in self.folders
        if not is_folder and kind_of_name(name) is None:
            return False
        return not self.left_out(root, path, is_folder)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def what_is(path: str) -> What:
    """What lies at a path now."""
    try:
        return "folder" if stat.S_ISDIR(os.stat(path).st_mode) else "file"  # noqa: PTH116 - thousands of them
    except OSError:
        return "file" if os.path.islink(path) else "gone"  # noqa: PTH114


def state_of(name: str) -> State:
    """What tells a file or folder from another one in its place; None where there is none.

    Of a file also what tells that it has changed, since files are looked at and not watched: a watch would
    end with the first editor that renames a new one to its place.
    """
    try:
        found = Path(name).stat()
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return found.st_dev, found.st_ino
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Watcher(Protocol):
    """What `follow` waits for."""

    def changed(self) -> bool:
        """Wait a little; whether anything has changed since this was asked last."""


class FolderWatcher:
    """Changes of files, and in folders and below them, as the system tells them or as a look at them does.

    Args:
        names: the files and folders, which may be missing now and then.
        index: the folder of the index.
        ignored: also what .gitignore files leave out.
        folders: where files were found so far, see `Interest`.
        quiet: seconds without a change that end a burst.
        say: gets messages for people.
    """

    def __init__(
        self,
        names: Sequence[str],
        index: Path,
        ignored: bool,
        folders: Callable[[], Collection[str]],
        quiet: float,
        say: Callable[[str], None],
    ) -> None:
        self._names, self._folders, self._say = names, folders, say
        self._own = sorted({absolute(index), os.path.realpath(index)})
        self._left_out = (lambda *_: False) if ignored else _left_out
        self._tick = min(_TICK, max(quiet / 2, 0.02))
        self._states: dict[str, State] | None = None
        self._roots: list[str] = []
        self._events: Generator[set[FileChange], None, None] | None = None
        self._polls = False

    def changed(self) -> bool:
        """Wait for a change, or a part of a second; whether anything has changed that matters.

        The first call begins to watch: nothing that happens from then on is missed.

        Raises:
            LateboltError: the system allows neither to watch nor to look.
        """
        states = {name: state_of(name) for name in self._names}
        if states != self._states:
            self._begin(states)
            return True
        if self._events is None:
            time.sleep(self._tick)
            return False
        try:
            return self._is_of_interest(next(self._events))
        except (OSError, RuntimeError) as error:  # a limit of the system that new folders have met
            self._fall_back(error)
            self._states = None
            return True

    def _begin(self, states: dict[str, State]) -> None:
        self.close()
        self._states = states
        folders = [name for name, state in states.items() if state is not None and len(state) == 2]
        self._roots = sorted({path for name in folders for path in (absolute(name), os.path.realpath(name))})
        if not folders:
            return
        for _ in range(2):
            self._events = self._watched([absolute(name) for name in folders])
            try:
                next(self._events)  # changes that came as early as this are in the run that follows
                return
            except FileNotFoundError:  # it went meanwhile; the next look finds it gone, or another one
                self._states = None
                self.close()
                return
            except (OSError, RuntimeError) as error:
                self._fall_back(error)

    def _watched(self, folders: Iterable[str]) -> Generator[set[FileChange], None, None]:
        from watchfiles import watch

        milliseconds = max(int(self._tick * 1000), 2)
        return watch(
            *folders,
            watch_filter=None,
            debounce=milliseconds,
            step=milliseconds // 2,
            rust_timeout=milliseconds,
            yield_on_timeout=True,
            force_polling=True if self._polls else None,
            poll_delay_ms=_POLL_MS,
            ignore_permission_denied=True,
        )

    def _fall_back(self, error: Exception) -> None:
        """Look at all files from time to time, where the system does not tell of so many."""
        if self._polls:
            raise LateboltError(f"folders can be neither watched nor looked at ({error}).") from error
        self._polls = True
        self.close()
        self._say(
            f"the system does not watch all of these folders ({error}); their files are looked at every "
            f"{_POLL_MS // 1000} s instead. On Linux, raise fs.inotify.max_user_watches."
        )

    def _is_of_interest(self, changes: set[FileChange]) -> bool:
        roots = set(self._roots)
        if any(path in roots and change.name == "deleted" for change, path in changes):
            self._states = None  # another one may be in its place already, which nobody watches
            return True
        interest = Interest(self._roots, self._own, self._folders(), self._left_out)
        return any(interest.matters(path, what_is(path)) for _, path in changes)

    def close(self) -> None:
        """Stop watching."""
        if self._events is not None:
            self._events.close()
            self._events = None


def _left_out(root: str, path: str, is_folder: bool) -> bool:
    return is_left_out(Path(root), Path(path), is_folder)


@dataclass(frozen=True)
class Done:
    """One run.

    Args:
        missing: documents whose files are gone, and which stay.
        skipped: files of folders that were passed over, and `told` those of them that were not before.
    """

    counts: SyncCounts
    missing: Sequence[str]
    skipped: Sequence[Skipped]
    told: Sequence[Skipped]
    seconds: float


@dataclass
class Follower:
    """Makes runs over the same files and folders; what stops one does not stop the next.

    A name that is missing, or a folder in which no file is left, takes no part: more often a disk is missing
    than all that was, so that its documents stay.

    Args:
        index: kept open, with its model.
        names: the files and folders.
        whole, made: see `FolderSync`.
        prune: forget documents of files that are gone.
        ignored: also what .gitignore files leave out.
        report: gets each run.
        say: gets messages for people.
    """

    index: Index
    names: Sequence[str]
    whole: bool
    made: str
    prune: bool
    ignored: bool
    report: Callable[[Done], None]
    say: Callable[[str], None]
    show_progress: bool = False
    folders: set[str] = field(default_factory=set)  # where files were found
    _begun: bool = False
    _waits: bool = False
    _refused: set[tuple[Path, str]] = field(default_factory=set)
    _skipped: set[tuple[Path, str]] = field(default_factory=set)

    def run(self) -> float | None:
        """One run; seconds after which to try again where it could not be, None: with the next change.

        Raises:
            LateboltError: the first run is refused, or the index cannot be used any more.
        """
        try:
            self._run()
        except IndexLocked as error:
            if not self._waits:
                self.say(f"{error} What has changed waits for that.")
            self._waits = True
            return _LOCKED
        except StorageFull as error:
            self.say(f"{error} Tried again with the next change, or in a minute.")
            return _FULL
        except IndexUnusable:
            raise
        except LateboltError as error:
            if not self._begun:
                raise
            self.say(f"{error} Tried again with the next change.")
        self._begun, self._waits = True, False
        return None

    def _run(self) -> None:
        if is_there(self.index.path):
            with writer_lock(self.index.path):  # asked before thousands of files are looked at in vain
                pass
        started = time.perf_counter()
        skipped: list[Skipped] = []
        refused: list[Skipped] = []
        sources = sources_of(self.names, skipped, self.ignored, refused)
        self._tell_refused(refused)
        out = {each.path for each in refused}
        names = [name for name in self.names if Path(name) not in out]
        self.folders |= _folders_of(sources)
        if not sources:
            return
        with FolderSync(sources, names, skipped, self.whole, self.made) as run:
            counts = run.run(self.index, self.prune, show_progress=self.show_progress)
        self.folders = _folders_of(sources)
        told = [each for each in skipped if (each.path, each.reason) not in self._skipped]
        self._skipped = {(each.path, each.reason) for each in skipped}
        self.report(Done(counts, run.missing, skipped, told, time.perf_counter() - started))

    def _tell_refused(self, refused: Sequence[Skipped]) -> None:
        for each in refused:
            if (each.path, each.reason) not in self._refused:
                self.say(
                    f"{each.path}: {each.reason}. Its documents stay, and it is followed when that changes."
                )
        self._refused = {(each.path, each.reason) for each in refused}


def _folders_of(sources: Iterable[SourceFile]) -> set[str]:
    """The folders of files, and those around them."""
    found: set[str] = set()
    for source in sources:
        folder = os.path.dirname(absolute(source.path or ""))  # noqa: PTH120 - thousands of them
        while folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120
    return found


def follow(
    watcher: Watcher,
    run: Callable[[], float | None],
    burst: Burst,
    ends: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """One run at once, and one after each burst of changes, until `ends`.

    Args:
        run: returns seconds after which it is to be tried again even if nothing changes, None for not at all.
    """
    watcher.changed()  # what happens during the first run is not missed
    pause = run()
    at = clock()
    while not ends():
        if watcher.changed():
            burst.met(clock())
        if burst.due(clock()) or (pause is not None and clock() >= at + pause):
            burst.taken()
            pause = run()
            at = clock()
