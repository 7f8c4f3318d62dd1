"""Reads the small files of a model that others made, naming a missing or broken one; digests large ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latebolt.errors import ModelError


def read_json(path: Path, fallback: Any = None) -> Any:
    """The parsed file, or `fallback` where there is none.

    Raises:
        ModelError: the file is there but is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if "\\u" in text:  # escapes can spell halves of characters, which nothing else takes
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except FileNotFoundError:
        return fallback
    # Not UTF-8, not JSON, a number of too many digits, lists in lists without end: each has its own.
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}). Download it again.") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file.

    Raises:
        ModelError: the file holds something else.
    """
    found = read_json(path, {})
    if not isinstance(found, dict):
        raise ModelError(f"{path}: should hold a JSON object, got {type(found).__name__}. Download it again.")
    return found


def integer(settings: dict[str, Any], key: str, fallback: int, path: Path) -> int:
    """`settings[key]` as a whole number, `fallback` where it is absent or null.

    Raises:
        ModelError: it is something else.
    """
    value = settings.get(key)
    if value is None:
        return fallback
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(f"{path}: {key} should be a whole number, got {value!r}. Correct the file.")
    return value


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_sha256(files: Sequence[Path]) -> str:
    """Hex digest of one file, or over the digests of several."""
    digests = [sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
