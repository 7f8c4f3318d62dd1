"""Reads the small files of a checkpoint, naming a missing or broken one; describes those of a graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latebolt.contract import Graph
from latebolt.errors import ExportError


def read_json(path: Path, fallback: Any = None) -> Any:
    """The parsed file, or `fallback` where there is none.

    Raises:
        ExportError: the file is there but is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return fallback
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ExportError(f"{path}: cannot be read as JSON ({error}). Download it again.") from error


def integer(settings: dict[str, Any], key: str, fallback: int, path: Path) -> int:
    """`settings[key]` as a whole number, `fallback` where it is absent or null.

    Raises:
        ExportError: it is something else.
    """
    value = settings.get(key)
    if value is None:
        return fallback
    if isinstance(value, bool) or not isinstance(value, int):
        raise ExportError(f"{path}: {key} should be a whole number, got {value!r}. Correct the file.")
    return value


def describe(files: Sequence[Path], folder: Path, isa: str) -> Graph:
    """The contract's record of a graph.

    Args:
        files: the ONNX file, and the data file beside one that is too large for a single file.
    """
    main = files[0]
    return Graph(main.relative_to(folder).as_posix(), main.stat().st_size, sha256(main), isa)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
