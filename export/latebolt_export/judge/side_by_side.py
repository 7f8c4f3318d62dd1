"""Puts the exported model beside the library that its checkpoint was made for: tokens and vectors of texts.

This is where text rules are compared, not graphs: markers, prompts, lengths, expansion, skip lists, casing.
The library runs in a process of its own (`reference_library`), so that it may live in another environment.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from latebolt import contract
from latebolt.encoder.encoder import Encoder
from latebolt.errors import ExportError, InvalidInput, RuntimeUnavailable
from latebolt.values import TokenVectors
from latebolt_export.judge import reference_library, texts
from latebolt_export.requirements import quiet

LIBRARIES = tuple(reference_library.LIBRARIES)
CLOSE = 1e-4  # a larger difference of float32 vectors, or another count of tokens, is said aloud
PASSAGES = 24  # texts beside `HARD`
SHOWN = 60  # characters of a text in the report
# What libraries tokenise differently when a rule is read wrongly. Nothing empty: some of them refuse that.
HARD = (
    "a", "?!.,;", "[MASK]", "what [MASK] is [SEP] a [CLS] token [PAD]", "[Q] a [D] b query: document:",
    "日本語のテキスト と 中文", "naïve café, ÉCOLE Zürich straße", "emoji 🙂👩\u200d👩\u200d👧 here",
    "line one\nline two\r\n\ttabbed  twice",
    "  leading and trailing  ", "MiXeD Case WORDS", "don't e-mail me@x.org: 3,50 $ (50%)", "long " * 700,
)  # fmt: skip


@dataclass(frozen=True)
class Library:
    """Which library to ask, the Python that has it, and the checkpoint that it reads."""

    name: str
    checkpoint: str
    python: str | Path | None = None  # None = this one


class Difference(msgspec.Struct, frozen=True):
    """One text of which the two made different numbers of vectors, or different vectors."""

    kind: str
    text: str  # its beginning
    ours: int  # vectors
    theirs: int
    max_abs: float | None  # None where the counts differ


class SideBySide(msgspec.Struct, frozen=True):
    """What the comparison found, queries and documents by themselves."""

    library: str  # name and version
    precision: str
    dim: int
    texts: dict[str, int]
    same_counts: dict[str, int]  # texts of which both made the same number of vectors
    vectors: dict[str, int]  # that ours made
    max_abs: dict[str, float]  # largest difference of one component, over texts of the same count
    differences: list[Difference]  # the worst first

    @property
    def agrees(self) -> bool:
        return self.same_counts == self.texts and max(self.max_abs.values()) <= CLOSE


def check_name(name: str) -> None:
    """Raise InvalidInput unless it is one of the libraries."""
    if name not in LIBRARIES:
        raise InvalidInput(f'compare should be one of {", ".join(LIBRARIES)}, got "{name}".')


def compare(model: Path, library: Library) -> SideBySide:
    """Encode the same texts with the model folder and with the library.

    Raises:
        RuntimeUnavailable: the library cannot be imported there.
        ExportError: it failed, or its vectors have a width that the model lacks.
    """
    passages = [*HARD, *texts.parity_texts(PASSAGES)]
    asked = {"query": [*HARD, *(" ".join(text.split()[:9]) for text in passages[len(HARD) :])]}
    asked["document"] = passages
    theirs, version = _run(library, asked)
    dim = theirs["query"][0].shape[1]
    graphs = contract.read(model).graphs
    precision = next(name for name in contract.PRECISIONS if name in graphs)
    with Encoder.load(model, precision) as whole:
        widths = [head.dim for head in whole.contract.heads]
        if dim not in widths:
            raise ExportError(
                f"{version} gives vectors of {dim} components, the model has {', '.join(map(str, widths))}. "
                f"Include {dim} in the widths, or leave the comparison out."
            )
    # The runtime would say of the long texts that they were cut, which they should be.
    with quiet(), Encoder.load(model, precision, dim) as encoder:
        ours = {
            "query": encoder.encode_queries(asked["query"]),
            "document": encoder.encode_documents(asked["document"]),
        }
    return _report(version, precision, asked, ours, theirs)


def _report(
    version: str,
    precision: str,
    asked: dict[str, list[str]],
    ours: dict[str, TokenVectors],
    theirs: dict[str, list[np.ndarray]],
) -> SideBySide:
    same = dict.fromkeys(asked, 0)
    most = dict.fromkeys(asked, 0.0)
    differences = []
    for kind, some in asked.items():
        for text, mine, other in zip(some, ours[kind], theirs[kind], strict=True):
            apart = None
            if mine.shape == other.shape:
                same[kind] += 1
                apart = float(np.abs(mine - unit(other)).max()) if mine.size else 0.0
                most[kind] = max(most[kind], apart)
            if apart is None or not apart <= CLOSE:
                differences.append(Difference(kind, text[:SHOWN], len(mine), len(other), apart))
    differences.sort(key=lambda each: (each.max_abs is not None, -(each.max_abs or 0.0)))
    return SideBySide(
        library=version,
        precision=precision,
        dim=ours["query"].dim,
        texts={kind: len(some) for kind, some in asked.items()},
        same_counts=same,
        vectors={kind: vectors.n_tokens for kind, vectors in ours.items()},
        max_abs=most,
        differences=differences,
    )


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length: not every library normalises by itself."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _run(library: Library, asked: dict[str, list[str]]) -> tuple[dict[str, list[np.ndarray]], str]:
    """Vectors of each text by kind, and the library's name and version."""
    python = str(library.python or sys.executable)
    command = [python, str(Path(reference_library.__file__)), library.name, library.checkpoint]
    try:
        done = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True, check=False)
    except OSError as error:
        raise RuntimeUnavailable(f"{python}: cannot be run ({error.strerror}). Name a Python.") from error
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        if last.startswith(("ModuleNotFoundError", "ImportError")):
            raise RuntimeUnavailable(
                f"{library.name} cannot be imported by {python} ({last}). Name a Python that has it "
                f"(--compare-python PATH)."
            )
        raise ExportError(f"{library.name} failed on {library.checkpoint}: {last}")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        vectors = {
            kind: _split(found[f"{kind}_values"], found[f"{kind}_lengths"]) for kind in ("query", "document")
        }
        return vectors, str(found["library"])


def _split(values: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])
