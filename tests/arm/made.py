"""What two machines of different kinds make from the same texts and vectors, to be compared.

    python tests/arm/made.py FOLDER [FOLDER OF THE OTHER]

The first to run also writes `inputs.npz`, the numbers all begin from: two C libraries could draw others.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latebolt import Encoder, Index

MODELS = ("starter", "multilingual")
TEXTS = (
    "The population of Berlin grew to 3.85 million.",
    "Fresh bread is baked in the morning.",
    "a",
    "Die Katze sitzt auf dem Sofa und schläft.",
    "x = [i for i in range(10)]  # code",
    "Красная планета — Марс.",
    "昔々、あるところにおじいさんとおばあさんがいました。",
    "long " * 60,
)
BITS = (1, 2, 4, 8, 16)
DIM = 64
N_DOCUMENTS, N_LATER = 700, 100  # more tokens than a codec is learnt from
K = 10


def write_inputs(path: Path) -> None:
    """Vectors of documents around a few dozen centres, as real ones lie, and of queries near some of them."""
    rng = np.random.default_rng(20261129)
    lengths = rng.integers(5, 25, N_DOCUMENTS + N_LATER)
    centres = _unit(rng.standard_normal((40, DIM)))
    tokens = _unit(
        centres[rng.integers(0, 40, lengths.sum())] + 0.1 * rng.standard_normal((lengths.sum(), DIM))
    )
    queries = _unit(tokens[rng.integers(0, len(tokens), (6, 8))] + 0.05 * rng.standard_normal((6, 8, DIM)))
    np.savez(path, tokens=tokens, ends=np.cumsum(lengths), queries=queries)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


class Inputs:
    """documents: a float32 matrix each; queries: float32 [n, 8, DIM]."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as read:
            self.documents = np.split(read["tokens"], read["ends"][:-1])
            self.queries = read["queries"]


def make_index(path: Path, inputs: Inputs, bits: int) -> None:
    """An index of the first documents, with texts, metadata, and one deleted."""
    first = inputs.documents[:N_DOCUMENTS]
    with Index.create(path, None, bits=bits, dim=DIM) as index:
        texts = [f"document {i} of {N_DOCUMENTS}" for i in range(len(first))]
        index.add_vectors(
            [f"d{i}" for i in range(len(first))], first, texts, [{"n": i} for i in range(len(first))]
        )
        index.delete(["d7"])


def grow(path: Path, inputs: Inputs) -> None:
    """Later documents into an index that is there, by the codec that it has."""
    with Index.open(path) as index:
        later = inputs.documents[N_DOCUMENTS:]
        index.add_vectors([f"later{i}" for i in range(len(later))], later)


def found(path: Path, inputs: Inputs) -> list[list[tuple[str, float]]]:
    """Hits of each query, scored by everything."""
    with Index.open(path) as index:
        hits = index.search_vectors_many(list(inputs.queries), K, exhaustive=True)
    return [[(hit.id, hit.score) for hit in some] for some in hits]


def arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of each of an index's arrays, in order."""
    for file in sorted(path.rglob("*.npy")):
        yield file.relative_to(path).as_posix(), np.load(file)


def vectors(model: str) -> dict[str, np.ndarray]:
    """float32 [tokens, dim] of all texts, as queries and as documents."""
    encoder = Encoder.load(model, device="cpu", threads=2)
    queries, documents = encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS)
    return {
        "queries": np.concatenate([np.asarray(each) for each in queries]),
        "documents": np.concatenate([np.asarray(each) for each in documents]),
    }


def main(folder: Path, other: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder.parent / "inputs.npz").exists():
        write_inputs(folder.parent / "inputs.npz")
    inputs = Inputs(folder.parent / "inputs.npz")
    for model in MODELS:
        np.savez(folder / f"{model}.npz", **vectors(model))
    hits: dict[str, Any] = {}
    for bits in BITS:
        path = folder / f"{bits}.index"
        make_index(path, inputs, bits)
        hits[path.name] = found(path, inputs)
        if other is not None:
            # The other's index goes on here; and our own, there.
            grown = shutil.copytree(other / path.name, folder / f"{bits}-of-the-other.index")
            grow(grown, inputs)
        grown = shutil.copytree(path, folder / f"{bits}-grown.index")
        grow(grown, inputs)
        hits[grown.name] = found(grown, inputs)
    (folder / "hits.json").write_text(json.dumps(hits))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
