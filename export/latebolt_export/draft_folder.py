"""Makes a folder appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from latebolt import contract
from latebolt.errors import ExportError, StorageFull


def check_target(out: Path, overwrite: bool) -> None:
    """Raise ExportError unless a model folder may be put at `out`."""
    if not out.exists():
        return
    if not overwrite:
        raise ExportError(
            f"{out}: exists already. Choose another folder or overwrite it (--overwrite, or overwrite=True)."
        )
    if not (out / contract.FILE_NAME).is_file():
        raise ExportError(f"{out}: is not a model folder, so it is not overwritten. Choose another folder.")


@contextlib.contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """A new empty folder beside `out` that takes its place when the block ends well, and goes otherwise.

    Raises:
        StorageFull: the disk ran full inside the block.
    """
    draft = out.with_name(out.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)  # left by a process that was killed
    draft.mkdir(parents=True)
    try:
        yield draft
        _replace(out, draft)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(
                f"{out}: the disk is full, nothing was written. Free some space and export again."
            ) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(out: Path, draft: Path) -> None:
    if not out.exists():
        draft.rename(out)
        return
    old = out.with_name(out.name + ".old.draft")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    draft.rename(out)
    shutil.rmtree(old, ignore_errors=True)
