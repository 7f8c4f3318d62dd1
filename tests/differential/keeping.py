"""Keeps on disk what a library made of a drawn case: the saved model, its vectors, or its refusal."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from differential.drawing import Case

Made = tuple[list[Any], list[Any]]  # a matrix [tokens, dim] a text, as queries and as documents


def keep(out: Path, case: Case, version: str, make: Callable[[Path, Path], Made]) -> None:
    """Run `make(folder to save to, folder to start from)` and write what comes of it."""
    place = out / f"{case.library.replace(' ', '-')}-{case.number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    record = dataclasses.asdict(case) | {"version": version, "refused": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = make(place / "model", place / "base")
    except Exception as error:  # noqa: BLE001  whatever it is, the library did not want the case
        record["refused"] = (
            f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        )
    else:
        arrays = {
            f"{kind}_{i}": np.asarray(matrix, np.float32)
            for kind, matrices in zip(("query", "document"), made, strict=True)
            for i, matrix in enumerate(matrices)
        }
        np.savez(place / "vectors.npz", **arrays)
    shutil.rmtree(place / "base", ignore_errors=True)
    (place / "case.json").write_text(json.dumps(record))


def cases(out: Path) -> list[Path]:
    """The folders of all cases that were kept."""
    return sorted(path.parent for path in out.glob("*/case.json"))


def vectors(place: Path) -> dict[str, list[np.ndarray]]:
    """What `keep` was given: "query" and "document" -> float32 [tokens, dim] a text."""
    with np.load(place / "vectors.npz") as kept:
        counts = {kind: sum(name.startswith(kind) for name in kept.files) for kind in ("query", "document")}
        return {kind: [kept[f"{kind}_{i}"] for i in range(count)] for kind, count in counts.items()}
