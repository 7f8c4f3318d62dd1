"""Says where a model folder may be put, and makes one appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from latebolt import contract, drafts
from latebolt.errors import ExportError


def check_target(out: Path, overwrite: bool, progress: Callable[[str], None] = lambda step: None) -> None:
    """Raise ExportError unless a model folder may be put at `out`.

    Clears away first what a killed export left beside it; `progress` is told of that.
    """
    for line in drafts.remove_leftovers(Path(os.path.realpath(out)).parent):
        progress(line)
    if os.path.lexists(out):
        _check_there(out, overwrite)


def _check_there(out: Path, overwrite: bool) -> None:
    if not overwrite:
        raise ExportError(
            f"{out}: exists already. Choose another folder or overwrite it (--overwrite, or overwrite=True)."
        )
    if not (out / contract.FILE_NAME).is_file():
        raise ExportError(f"{out}: is not a model folder, so it is not overwritten. Choose another folder.")


@contextlib.contextmanager
def draft_of(out: Path, overwrite: bool) -> Iterator[Path]:
    """A new empty folder that takes the place of `out` when the block ends well, and goes otherwise.

    Raises:
        ExportError: something that may not be replaced lies at `out`.
        StorageFull, LateboltError: see `drafts.folder_for`.
    """
    with drafts.folder_for(out, lambda _: _check_there(out, overwrite)) as draft:
        yield draft
