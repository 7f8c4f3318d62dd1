"""What does a token take on disk, and does `latebolt cost` foretell it?

The same token vectors (squad at LATEBOLT_DATA, or the standard library's docstrings) written by each store:
bytes of the real folder over the number of tokens, beside what the formulas of `latebolt cost` say. The
formulas leave out what a few files of a few kilobytes take, and count an entry of a list for every token,
where a document has several tokens near one centroid and an index below 4 million tokens has no lists. Texts
are not stored. Qdrant is its own engine (`pip install qdrant-edge-py`); fast-plaid wants a torch of its own:
see `search.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import encode
from harness import arguments, kept_rows, record
from latebolt import Encoder, Index, TokenVectors, cost

DIMS, BITS = (128, 64), (1, 2, 4, 8, 16)
PLAID = """
import sys, numpy, torch
from fast_plaid.search import FastPlaid
values, offsets = numpy.load(sys.argv[1]), numpy.load(sys.argv[2])
documents = [torch.tensor(values[a:b]) for a, b in zip(offsets[:-1], offsets[1:])]
FastPlaid(index=sys.argv[3], device="cpu").create(documents)
"""


def taken(folder: Path) -> int:
    """Bytes of the files, sparse ones by what they take."""
    return sum(min(f.stat().st_size, f.stat().st_blocks * 512) for f in folder.rglob("*") if f.is_file())


def ours(vectors: TokenVectors, bits: int, folder: Path) -> dict[str, Any]:
    """An index without texts."""
    start = time.perf_counter()
    index = Index.create(folder, None, bits=bits, dim=vectors.dim)
    index.add_vectors([str(i) for i in range(len(vectors))], vectors)
    built = time.perf_counter() - start
    corpus = cost.Corpus(len(vectors), vectors.n_tokens / len(vectors))
    stored, rest = cost.ours(corpus, vectors.dim, bits)
    return {
        "store": f"latebolt {bits} bit",
        "dim": vectors.dim,
        "build_s": built,
        "bytes": taken(folder),
        "foretold": stored + rest,
    }


def qdrant(vectors: TokenVectors, folder: Path) -> dict[str, Any] | None:
    """Multivectors of float32 in Qdrant's engine; None where it is not installed.

    A mean of each document's vectors stands beside them: without a first stage Qdrant builds a graph of the
    multivectors, which takes minutes and stores as much.
    """
    try:
        from latebolt.adapters.qdrant_edge import Shard

        start = time.perf_counter()
        with Shard.create(folder, dim=vectors.dim, first_stage="mean") as shard:
            shard.add_vectors([str(i) for i in range(len(vectors))], vectors)
            shard.optimize()
            shard.shard.flush()
    except ImportError:
        return None
    built = time.perf_counter() - start
    corpus = cost.Corpus(len(vectors), vectors.n_tokens / len(vectors))
    return {
        "store": "Qdrant float32",
        "dim": vectors.dim,
        "build_s": built,
        "bytes": taken(folder),
        "foretold": sum(cost.qdrant(corpus, vectors.dim, 32)),
    }


def fast_plaid(vectors: TokenVectors, folder: Path, python: str) -> dict[str, Any]:
    """fast-plaid's default of 4 bits, beside the formula of the index it follows."""
    folder.mkdir()
    files = [folder.with_suffix(f".{name}.npy") for name in ("values", "offsets")]
    np.save(files[0], vectors.values)
    np.save(files[1], vectors.offsets)
    start = time.perf_counter()
    subprocess.run([python, "-c", PLAID, *map(str, files), str(folder)], check=True, stdout=sys.stderr)
    built = time.perf_counter() - start
    corpus = cost.Corpus(len(vectors), vectors.n_tokens / len(vectors))
    return {
        "store": "fast-plaid 4 bit",
        "dim": vectors.dim,
        "build_s": built,
        "bytes": taken(folder),
        "foretold": sum(cost.plaid(corpus, vectors.dim, 4)),
    }


def main() -> None:
    """Every store at every width; the ratio to float32 of the widest that anyone stores."""
    given = arguments(__doc__)
    texts = encode.texts(200 if given.quick else 3_000)
    peers = os.environ.get("LATEBOLT_PEERS")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for dim in DIMS[-1:] if given.quick else DIMS:
            vectors = Encoder.load("starter", dim=dim, threads=given.threads).encode_documents(texts)
            found: list[dict[str, Any] | None] = [
                ours(vectors, bits, Path(temporary) / f"{dim}-{bits}") for bits in BITS
            ]
            found.append(qdrant(vectors, Path(temporary) / f"{dim}-qdrant"))
            if peers and not given.quick:
                found.append(fast_plaid(vectors, Path(temporary) / f"{dim}-plaid", peers))
            for row in found:
                if row is not None:
                    size, foretold = row.pop("bytes"), row.pop("foretold")
                    row |= {"documents": len(vectors), "tokens": vectors.n_tokens}
                    row |= {"bytes_a_token": size / vectors.n_tokens}
                    row |= {"foretold": foretold / vectors.n_tokens, "measured / foretold": size / foretold}
                    row |= {"float32 at 128 / this": vectors.n_tokens * DIMS[0] * 4 / size}
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    kept = kept_rows("storage", rows, ("store", "dim"), ("tokens",))
    record("storage", rows + kept, ("qdrant-edge-py",), given.quick)


if __name__ == "__main__":
    main()
