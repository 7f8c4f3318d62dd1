"""The files that names on the command line stand for: each file that is named, and what is in a folder.

A file that is named has to be usable. A folder's files were named by nobody, so one that cannot be used is
passed over; what was passed over is kept, for the command to tell at its end.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latebolt.corpus.gitignore import IgnoreRules, rules_above
from latebolt.corpus.readers.kinds import IN_WORDS, Kind, kind_of, kind_of_name
from latebolt.errors import InputNotFound, InvalidInput, RuntimeUnavailable

_MOST_NAMED: Final = 5  # of the files passed over, so many are named


@dataclass(frozen=True)
class Skipped:
    """A file of a folder that was passed over, and why."""

    path: Path
    reason: str

    def record(self) -> dict[str, str]:
        """As JSON values."""
        return {"file": str(self.path), "reason": self.reason}


@dataclass(frozen=True)
class SourceFile:
    """A file to read; None for standard input. `named`: by a person, not found in a folder."""

    path: Path | None
    named: bool = True


def sources_of(
    names: Sequence[str],
    skipped: list[Skipped],
    ignored: bool = False,
    refused: list[Skipped] | None = None,
) -> list[SourceFile]:
    """The files of all names, in order, a file that comes twice once.

    Args:
        skipped: gets the files of folders that cannot be read as documents.
        ignored: of folders, also what their .gitignore files leave out.
        refused: gets the names that are missing, or of folders without files, which are otherwise an error.
    Raises:
        RuntimeUnavailable: the kind of a named file needs a library that is not installed.
        InvalidInput: a named file is missing or of an unknown kind, or a folder holds none of a known kind.
    """
    found: dict[object, SourceFile] = {}
    for name in names:
        try:
            _find(name, found, skipped, ignored)
        except InvalidInput as error:
            if refused is None:
                raise
            refused.append(Skipped(Path(name), _reason(error, name)))
    return list(found.values())


def _reason(error: InvalidInput, name: str) -> str:
    return str(error).removeprefix(f"{Path(name)}: ").partition(". ")[0].rstrip(".")


def _find(name: str, found: dict[object, SourceFile], skipped: list[Skipped], ignored: bool) -> None:
    """Put the files of a name to those found already."""
    if name == "-":
        found.setdefault(None, SourceFile(None))
        return
    path = Path(name)
    if not path.is_dir():
        _check_named(path)
        key = os.path.realpath(path)
        # A file that is named as well is held to that, wherever in the order it comes.
        found[key] = SourceFile(path) if key not in found else SourceFile(found[key].path)
        return
    before = len(skipped)
    inside = list(_inside(path, skipped, ignored))
    if not inside and len(skipped) == before:
        raise InvalidInput(f"{path}: has no {IN_WORDS} file in it.")
    real = functools.cache(Path.resolve)  # of folders, which is a look at each folder above
    for file in inside:
        key = os.path.realpath(file) if file.is_symlink() else str(real(file.parent) / file.name)
        found.setdefault(key, SourceFile(file, named=False))


def is_left_out(root: Path, path: Path, is_folder: bool) -> bool:
    """Whether .gitignore files leave out what lies below a folder; both as absolute paths."""
    rules = rules_above(root)
    folder = root
    for name in path.relative_to(root).parts[:-1]:
        rules = IgnoreRules(folder, rules)
        if rules.leave_out(name, is_folder=True):
            return True
        folder /= name
    return IgnoreRules(folder, rules).leave_out(path.name, is_folder)


def _check_named(path: Path) -> None:
    if not os.path.lexists(path):
        raise InputNotFound(f"{path}: there is no such file.")
    if not path.exists():
        raise InputNotFound(f"{path}: is a link to a file that is not there.")
    kind = kind_of(path)
    if kind is None:
        raise InvalidInput(f"{path}: is not a {IN_WORDS} file. Pipe other text in through -.")
    if lacks := kind.lacks():
        raise RuntimeUnavailable(f"{path}: {lacks}")
    if odd := _odd_name(path):
        raise InvalidInput(f"{path}: {odd}. Rename it: its name becomes the document's id.")


def _inside(root: Path, skipped: list[Skipped], ignored: bool) -> Iterator[Path]:
    """Files of known kinds below a folder, sorted, but for hidden ones and for folders that links lead to.

    ignored: also those that .gitignore files leave out.
    """

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(Path(error.filename or root), f"cannot be read ({error.strerror})"))

    paths: list[Path] = []
    rules = {} if ignored else {root: rules_above(Path(os.path.abspath(root)))}  # noqa: PTH100 - as named
    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [name for name in files if not name.startswith(".") and kind_of_name(name)]
        if not ignored:
            own = IgnoreRules(Path(os.path.abspath(folder)), rules.pop(Path(folder)))  # noqa: PTH100
            folders[:] = [name for name in folders if not own.leave_out(name, is_folder=True)]
            files = [name for name in files if not own.leave_out(name)]
            rules |= dict.fromkeys((Path(folder, name) for name in folders), own)
        paths += [Path(folder, name) for name in files]
    lacks = functools.cache(Kind.lacks)  # asks the file system, and there may be thousands of a kind
    for path in sorted(paths):
        kind = kind_of(path)
        reason = _odd_name(path) or _odd_kind(path) or (lacks(kind) if kind else None)
        if reason is None:
            yield path
        else:
            skipped.append(Skipped(path, reason))


def _odd_name(path: Path) -> str | None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return None


def _odd_kind(path: Path) -> str | None:
    """Why a path of a folder is no file to read: opening a pipe, for one, would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to a file that is not there"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "is no file of bytes"


def skipped_message(skipped: Sequence[Skipped], what: str = "of the folder's files were passed over") -> str:
    """The count, and the first of them by name."""
    first = "; ".join(f"{each.path} {each.reason}" for each in skipped[:_MOST_NAMED])
    more = f"; and {len(skipped) - _MOST_NAMED} more" if len(skipped) > _MOST_NAMED else ""
    return f"{len(skipped)} {what}: {first}{more}"
