"""Deletes an index as a whole: what latebolt has made in its folder, and nothing that others keep there.

The manifest goes first. From then on there is no index, whatever ends the work; the rest is in nobody's way,
since a new index can be made in what is left of the folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from latebolt.errors import InvalidInput
from latebolt.index.format import files, layout
from latebolt.index.format.cleanup import remove_unnamed
from latebolt.index.format.files import writing
from latebolt.index.format.layout import Manifest
from latebolt.index.format.lock import writer_lock
from latebolt.index.format.manifest_file import read_content

_NOTHING = Manifest(layout.FORMAT, layout.version_of(()), 0, 1, None, 1, 1, {})


def check_removable(path: Path) -> None:
    """Raise what `remove_index` would, where that can be seen beforehand."""
    if not layout.is_manifest(read_content(path)):
        raise InvalidInput(
            f"{path}: its {layout.MANIFEST} is none of latebolt's, so this is no index. Nothing was deleted."
        )


def remove_index(path: Path, also: Iterable[str] = (), timeout: float = 0.0) -> list[str]:
    """Delete an index, a damaged one or one of another version, too.

    Args:
        also: names of files that others of ours keep beside it, as `sync` does.
        timeout: seconds to wait for another process that is writing.
    Returns:
        Names of what stays in the folder, since it is not latebolt's or cannot be removed. The folder goes
        where nothing stays.
    Raises:
        IndexNotFound: there is none.
        InvalidInput: there is a manifest.json of some other program.
        IndexLocked: another process is writing.
        IndexUnusable: the system does not let it be removed; it is as it was.
    """
    check_removable(path)  # before the lock, whose file would be made in a folder that is no index
    with writer_lock(path, timeout):
        check_removable(path)
        for name in also:  # first, since nothing but our own leftovers may be in the way of a new index
            files.remove(path / name)
        with writing(path / layout.MANIFEST):
            (path / layout.MANIFEST).unlink()
            files.sync_folder(path)
        remove_unnamed(path, _NOTHING)
        for name in (layout.SEGMENTS, layout.CODECS):
            with contextlib.suppress(OSError):
                (path / name).rmdir()
        files.remove(path / layout.LOCK)
    stays = sorted(each.name for each in path.iterdir()) if path.is_dir() else []
    if not stays and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.rmdir()
    return stays
