"""What does a token take on disk, and does `latebolt cost` foretell it?

The same token vectors (squad at LATEBOLT_DATA, or the standard library's docstrings) written by each store:
bytes of the real folder over the number of tokens, beside what the formulas of `latebolt cost` say. The
formulas leave out what a few files of a few kilobytes take, and count an entry of a list for every token,
where a document has several tokens near one centroid and an index below 4 million tokens has no lists. Texts
are not stored. Qdrant is its own engine (`pip install qdrant-edge-py`); fast-plaid wants a torch of its own:
see `search.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import encode
from harness import arguments, folder_bytes, kept_rows, record
from latebolt import Encoder, Index, TokenVectors, cost


class Store(NamedTuple):
    """Its name, where it is built and how, and bytes that the formulas of `latebolt cost` say."""

    name: str
    folder: Path
    build: Callable[[], None]
    foretold: float


DIMS, BITS = (128, 64), (1, 2, 4, 8, 16)
PLAID = """
import sys, numpy, torch
from fast_plaid.search import FastPlaid
values, offsets = numpy.load(sys.argv[1]), numpy.load(sys.argv[2])
documents = [torch.tensor(values[a:b]) for a, b in zip(offsets[:-1], offsets[1:])]
FastPlaid(index=sys.argv[3], device="cpu").create(documents)
"""


def build_ours(vectors: TokenVectors, bits: int, folder: Path) -> None:
    """An index without texts."""
    index = Index.create(folder, None, bits=bits, dim=vectors.dim)
    index.add_vectors([str(i) for i in range(len(vectors))], vectors)


def build_qdrant(vectors: TokenVectors, folder: Path) -> None:
    """Multivectors of float32 in Qdrant's engine.

    A mean of each document's vectors stands beside them: without a first stage Qdrant builds a graph of the
    multivectors, which takes minutes and stores as much.
    """
    from latebolt.adapters.qdrant_edge import Shard

    with Shard.create(folder, dim=vectors.dim, first_stage="mean") as shard:
        shard.add_vectors([str(i) for i in range(len(vectors))], vectors)
        shard.optimize()
        shard.shard.flush()


def build_plaid(vectors: TokenVectors, folder: Path, python: str) -> None:
    """fast-plaid's default of 4 bits."""
    folder.mkdir()
    files = [folder.with_suffix(f".{name}.npy") for name in ("values", "offsets")]
    np.save(files[0], vectors.values)
    np.save(files[1], vectors.offsets)
    subprocess.run([python, "-c", PLAID, *map(str, files), str(folder)], check=True, stdout=sys.stderr)


def stores(vectors: TokenVectors, folder: Path, peer: str | None) -> Iterator[Store]:
    """All that can be built here.

    Args:
        peer: the Python of an environment with fast-plaid; None without one.
    """
    corpus = cost.Corpus(len(vectors), vectors.n_tokens / len(vectors))
    for bits in BITS:
        place = folder / f"{vectors.dim}-{bits}"
        build = functools.partial(build_ours, vectors, bits, place)
        yield Store(f"latebolt {bits} bit", place, build, sum(cost.ours(corpus, vectors.dim, bits)))
    if importlib.util.find_spec("qdrant_edge"):
        place = folder / f"{vectors.dim}-qdrant"
        foretold = sum(cost.qdrant(corpus, vectors.dim, 32))
        yield Store("Qdrant float32", place, functools.partial(build_qdrant, vectors, place), foretold)
    if peer:
        place = folder / f"{vectors.dim}-plaid"
        foretold = sum(cost.plaid(corpus, vectors.dim, 4))
        yield Store("fast-plaid 4 bit", place, functools.partial(build_plaid, vectors, place, peer), foretold)


def main() -> None:
    """Every store at every width; the ratio to float32 of the widest that anyone stores."""
    given = arguments(__doc__)
    texts = encode.texts(200 if given.quick else 3_000)
    peer = None if given.quick else os.environ.get("LATEBOLT_PEERS")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for dim in DIMS[-1:] if given.quick else DIMS:
            vectors = Encoder.load("starter", dim=dim, threads=given.threads).encode_documents(texts)
            for store in stores(vectors, Path(temporary), peer):
                start = time.perf_counter()
                store.build()
                built, size = time.perf_counter() - start, folder_bytes(store.folder)
                row = {
                    "store": store.name,
                    "dim": dim,
                    "build_s": built,
                    "documents": len(vectors),
                    "tokens": vectors.n_tokens,
                    "bytes_a_token": size / vectors.n_tokens,
                    "foretold": store.foretold / vectors.n_tokens,
                    "measured / foretold": size / store.foretold,
                    "float32 at 128 / this": vectors.n_tokens * DIMS[0] * 4 / size,
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    kept = kept_rows("storage", rows, ("store", "dim"), ("tokens",))
    record("storage", rows + kept, ("qdrant-edge-py",), given.quick)


if __name__ == "__main__":
    main()
