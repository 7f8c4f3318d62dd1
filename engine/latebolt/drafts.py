"""Puts a file or folder where a user asked for it, whole or not at all, beside whatever else lies there.

Everything is made under a fresh name of our own in the same folder and renamed at the end; nothing that
somebody else made is ever removed, whatever it is called. A folder's draft is locked while its maker lives,
so that what a killed one left is told from what is being made; on a system without such locks it stays.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from latebolt import system
from latebolt.errors import LateboltError, StorageFull

_PREFIX: Final = ".latebolt-draft-"
_OURS: Final = re.compile(re.escape(_PREFIX) + "[0-9a-f]{32}")
# Inside a folder's draft: what it is for (this file is locked), the new folder, and the one that it replaces.
_RECORD, _NEW, _OLD = "draft.json", "new", "old"
_TRIES: Final = 8
_IN_THE_WAY: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})
_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than this process may write (ulimit -f)",
    errno.EROFS: "the disk is read-only",
}


class BeingMade(LateboltError):
    """Another process, or thread, is making the same folder."""


def refused(error: OSError, target: Path) -> LateboltError:
    """What the system said of a failed write to `target` or to its draft, in one line.

    StorageFull where no space, or no quota, is left; a LateboltError otherwise.
    """
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{target}: {reason}, nothing was written. Free some space and run it again.")
    file = str(error.filename or target)
    if _PREFIX in file or file == str(target):
        return LateboltError(f"{target}: cannot be written: {reason}. Nothing was left behind.")
    return LateboltError(f"{target}: was not written: {file}: {reason}. Nothing was left behind.")


@contextlib.contextmanager
def file_for(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when the block ends well, and goes otherwise.

    Raises:
        StorageFull: no space, or no quota, is left.
        LateboltError: the system refused it otherwise.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(_PREFIX + uuid.uuid4().hex)
    try:
        with draft.open("xb") as file:
            yield file
        system.replace(draft, target)
    except LateboltError:  # StorageFull is an OSError too
        raise
    except OSError as error:
        raise refused(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_for(path: Path, check: Callable[[Path], object]) -> Iterator[Path]:
    """A new empty folder that takes the place of `path` when the block ends well, and goes otherwise.

    SIGTERM and SIGHUP end the block as Ctrl-C does, so that they leave nothing either.

    Args:
        check: called when something lies at `path`, before the block and behind it; raises unless that may be
            replaced. Where `path` is a link, what it points to is meant.
    Raises:
        StorageFull: no space, or no quota, is left.
        BeingMade: another process is making this folder.
        LateboltError: the system refused it otherwise.
    """
    target = Path(os.path.realpath(path))
    with signals_raise(), _parents(target.parent, path):
        try:
            if os.path.lexists(target):
                check(target)
            with _draft(target) as draft:
                yield draft / _NEW
                _replace(target, draft, check)
        except LateboltError:
            raise
        except OSError as error:
            raise refused(error, path) from error


def remove_leftovers(folder: Path) -> list[str]:
    """Remove the drafts in `folder` whose makers were killed; what was done, a line each.

    A folder that a killed maker had set aside is put back. Drafts in use, and anything that we might not have
    made, are left alone. Never fails.
    """
    done = []
    for draft in _drafts(folder) if system.HAS_FILE_LOCKS else []:
        with contextlib.suppress(OSError), _held(draft, exclusive=True):  # fails where its maker lives
            if line := _remove_leftover(draft):
                done.append(line)
    return done


def _remove_leftover(draft: Path) -> str:
    record, old = _record(draft), draft / _OLD
    if not os.path.lexists(old):
        shutil.rmtree(draft, ignore_errors=True)
        return f"{draft}: left by a process that was killed; removed"
    target = draft.with_name(str(record.get("target") or draft.name))
    if not os.path.lexists(target):
        old.rename(target)
        shutil.rmtree(draft, ignore_errors=True)
        return f"{target}: set aside by a process that was killed; put back"
    if not os.path.lexists(draft / _NEW) and target != draft:  # it had taken its place
        shutil.rmtree(draft, ignore_errors=True)
        return f"{draft}: left by a process that was killed; removed"
    return f"{old}: set aside by a process that was killed; left for you to look at"


def _drafts(folder: Path) -> list[Path]:
    """Drafts of folders, by name and content."""
    found = []
    with contextlib.suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if not _OURS.fullmatch(entry.name) or entry.is_symlink() or not entry.is_dir():
                continue
            names = {inner.name for inner in entry.iterdir()}
            if _RECORD in names and names <= {_RECORD, _NEW, _OLD}:
                found.append(entry)
            elif not names:
                entry.rmdir()  # its maker was killed at once; one that lives makes another
    return found


def _record(draft: Path) -> dict[str, Any]:
    try:
        record = json.loads((draft / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextlib.contextmanager
def _held(draft: Path, exclusive: bool) -> Iterator[None]:
    """Hold another's draft, whose maker is dead.

    Raises:
        BlockingIOError: its maker lives.
        OSError: it is gone, or the disk has no locks.
    """
    with (draft / _RECORD).open("r+b") as file:
        system.lock(file, exclusive, wait=False)
        yield


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """The locked draft of a target, with an empty folder in it."""
    started = time.time_ns()
    with contextlib.ExitStack() as stack:
        draft = _begin(target, stack)
        record = {"target": target.name, "process": os.getpid(), "started": started}
        (draft / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        _refuse_second(target, draft, started)
        (draft / _NEW).mkdir()
        yield draft


def _begin(target: Path, stack: contextlib.ExitStack) -> Path:
    """Make the draft's folder and lock it, until the stack is closed."""
    for _ in range(_TRIES):
        draft = target.with_name(_PREFIX + uuid.uuid4().hex)
        stack.callback(_end, target, draft)
        draft.mkdir()
        with contextlib.suppress(FileNotFoundError):  # taken for a dead maker's before it could be locked
            file = stack.enter_context((draft / _RECORD).open("xb"))
            with contextlib.suppress(OSError):  # a disk without locks: then nobody can take it for dead
                system.lock(file)
            if not system.HAS_FILE_LOCKS or os.fstat(file.fileno()).st_nlink:
                return draft
    raise LateboltError(f"{target}: somebody else removes what is made beside it.")


def _end(target: Path, draft: Path) -> None:
    """Remove a draft; what it had set aside goes back if neither the new one nor another took its place."""
    # Where the new one did, a target that is missing was set aside by the next maker.
    if os.path.lexists(draft / _OLD) and os.path.lexists(draft / _NEW) and not os.path.lexists(target):
        try:
            (draft / _OLD).rename(target)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:  # another maker's, since we looked
                raise
    shutil.rmtree(draft, ignore_errors=True)


def _refuse_second(target: Path, own: Path, started: int) -> None:
    """Raise BeingMade if somebody who began earlier is making the same target."""
    for draft in _drafts(target.parent) if system.HAS_FILE_LOCKS else []:
        other = _record(draft)
        if draft == own or other.get("target") != target.name:
            continue
        if (other.get("started", 0), draft.name) > (started, own.name):
            continue
        try:
            with _held(draft, exclusive=False):
                pass
        except BlockingIOError as error:
            raise BeingMade(
                f"{target}: process {other.get('process')} is making it. Wait until it is done, or choose "
                f"another name."
            ) from error
        except OSError:
            continue


def _replace(target: Path, draft: Path, check: Callable[[Path], object]) -> None:
    """Put the new folder at the target; what lies there goes, once `check` has agreed."""
    old = draft / _OLD
    for _ in range(_TRIES):  # others may put something there, or take it away, at any moment
        if os.path.lexists(target):
            check(target)
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
        try:
            (draft / _NEW).rename(target)
            return
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        shutil.rmtree(old, ignore_errors=True)  # another maker's has taken the place of this one
    raise LateboltError(f"{target}: somebody else keeps putting something there. Choose another name.")


@contextlib.contextmanager
def _parents(folder: Path, path: Path) -> Iterator[None]:
    """Make the missing folders above; they go again, if empty, when the block fails."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()
        if isinstance(error, OSError) and not isinstance(error, LateboltError):
            raise refused(error, path) from error
        raise


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let the signals that end a process at once end it through its `finally` blocks."""

    def stop(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows knows no SIGHUP
            number = system.signal_number(name)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
