"""Removes what a writer left behind: drafts of a commit that never came, files that a newer commit dropped.

Never touches what the manifest given names, nor anything a writer of ours would not have made.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.index.format import files, layout
from latebolt.index.format.layout import Manifest


def remove_unnamed(path: Path, manifest: Manifest) -> None:
    """Remove, as far as possible, our files that the manifest does not name; never fails."""
    files.remove(path / (layout.MANIFEST + layout.DRAFT_SUFFIX))
    named: dict[Path, set[str]] = {path / layout.CODECS / n: set(c.files) for n, c in manifest.codecs.items()}
    named |= {path / layout.SEGMENTS / s.name: set(s.files) for s in manifest.segments}
    for parent in (layout.CODECS, layout.SEGMENTS):
        for folder in _entries(path / parent):
            if folder not in named:
                if folder.name.isdecimal():
                    files.remove(folder)
                continue
            for file in _entries(folder):
                if file.name not in named[folder] and file.suffix in (".npy", ".sqlite"):
                    files.remove(file)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
