"""Describes the files of a finished graph for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latebolt.contract import Graph, Part
from latebolt.formats.files import sha256


def describe(files: Sequence[Path], folder: Path, isa: str) -> Graph:
    """The contract's record of a graph.

    Args:
        files: the ONNX file, and the data file beside one that is too large for a single file.
    """
    main, *data = (
        Part(file.relative_to(folder).as_posix(), file.stat().st_size, sha256(file)) for file in files
    )
    return Graph(main.file, main.bytes, main.sha256, isa, data=tuple(data))
