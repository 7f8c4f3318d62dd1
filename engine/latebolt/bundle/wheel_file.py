"""Reads what a wheel says of itself, out of its file."""

from __future__ import annotations

from email.parser import BytesParser
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from latebolt.errors import LateboltError


def metadata_of(file: Path) -> dict[str, Any]:
    """Its METADATA, with the keys of core metadata as JSON; fields that may come again are lists.

    Raises:
        LateboltError: it is no wheel.
    """
    try:
        with ZipFile(file) as archive:
            [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
            told = BytesParser().parsebytes(archive.read(name), headersonly=True)
    except (BadZipFile, ValueError, OSError) as error:
        raise LateboltError(f"{file}: is no sound wheel ({error}).") from error
    several = ("Classifier", "Provides-Extra", "Requires-Dist")
    lists = {_key(field): [str(each) for each in told.get_all(field) or ()] for field in several}
    return {_key(field): str(value) for field, value in told.items() if field not in several} | lists


def _key(field: str) -> str:
    return field.lower().replace("-", "_")
