"""How much memory does each job take, and does it grow with the corpus?

Each row is a fresh process that does one job of a service: its resident memory at the end and at its most,
and how much of that is its own; the rest are pages of mapped files (the index, libraries), which the system
takes back when others need them. Texts come from a generator and (random) token vectors in lots, as a corpus
larger than memory would.
Whether encoding stays flat for as long as one likes is `encode_memory.py`; peers' memory stands beside their
times in `encode.py`, `search.py`, `cold_start.py` and `frameworks.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import encode
from harness import arguments, child, record, status_mb

DIM, TOKENS = 128, 60  # of a made document
SMALL, LARGE = 20_000, 200_000  # documents
TEXTS, SEARCHES = 2_000, 500


def import_latebolt(folder: Path, n: int) -> None:
    """Nothing else."""
    import latebolt  # noqa: F401


def encode_query(folder: Path, n: int) -> None:
    """Load the starter, encode one query."""
    from latebolt import Encoder

    encoder = Encoder.load("starter", precision="int8", dim=DIM)
    encoder.encode_queries(["how do I read a zip file"])


def encode_documents(folder: Path, n: int) -> None:
    """Encode real texts of mixed lengths in bulk, and drop the vectors."""
    from latebolt import Encoder

    some = encode.texts(n)
    encoder = Encoder.load("starter", dim=DIM)
    for start in range(0, len(some), 256):
        encoder.encode_documents(some[start : start + 256])


def short_texts(n: int) -> Iterator[str]:
    """`n` texts of about 20 tokens, made as they are asked for."""
    words = " ".join(encode.texts(200)).split()[:20_000]
    random = np.random.default_rng(0)
    for _ in range(n):
        start = int(random.integers(0, len(words) - 15))
        yield " ".join(words[start : start + 15])


def add_texts(folder: Path, n: int) -> None:
    """Add texts from a generator to a new index."""
    from latebolt import Encoder, Index

    index = Index.create(folder / f"texts-{n}", Encoder.load("starter", dim=DIM), bits=2)
    index.add(short_texts(n))


def add_vectors(folder: Path, n: int) -> None:
    """Add token vectors in commits of 10,000 documents to a new index."""
    from latebolt import Index, TokenVectors

    random = np.random.default_rng(0)
    index = Index.create(folder / str(n), None, bits=2, dim=DIM)
    base = random.standard_normal((4_000, DIM), np.float32)
    for start in range(0, n, 10_000):
        size = min(10_000, n - start)
        values = base[random.integers(0, len(base), size * TOKENS)]
        values += 0.3 * random.standard_normal(values.shape, np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        offsets = np.arange(0, size * TOKENS + 1, TOKENS)
        index.add_vectors([str(start + i) for i in range(size)], TokenVectors(values, offsets))


def search(folder: Path, n: int) -> None:
    """Open that index and search it."""
    from latebolt import Index

    index = Index.open(folder / str(n))
    random = np.random.default_rng(1)
    for _ in range(SEARCHES):
        query = random.standard_normal((16, DIM), np.float32)
        index.search_vectors(query / np.linalg.norm(query, axis=1, keepdims=True))


JOBS: dict[str, Callable[[Path, int], None]] = {
    "import latebolt": import_latebolt,
    "encode a query, int8": encode_query,
    "encode texts in bulk": encode_documents,
    "index texts from a generator": add_texts,
    "index token vectors": add_vectors,
    "search": search,
}


def plan(quick: bool) -> list[tuple[str, int]]:
    """(job, how many), in an order in which each finds what it needs."""
    small, large, some = (80, 160, 40) if quick else (SMALL, LARGE, TEXTS)
    texts = [("index texts from a generator", n) for n in ((small,) if quick else (small // 4, small))]
    sizes = (large,) if quick else (small, large)
    vectors = [(job, n) for n in sizes for job in ("index token vectors", "search")]
    return [*((job, some) for job in list(JOBS)[:3]), *texts, *vectors]


def main() -> None:
    """One child a row."""
    given = arguments(__doc__, job="", n=0, folder="")
    if given.child:
        JOBS[given.job](Path(given.folder), given.n)
        sizes = {"resident_MB": "VmRSS", "own_MB": "RssAnon", "peak_MB": "VmHWM"}
        row = {name: status_mb(size) for name, size in sizes.items()}
        print(json.dumps([row]))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for job, n in plan(given.quick):
            asked = ["--job", job, "--n", str(n), "--folder", temporary]
            [found] = child(__file__, asked, given.threads)
            counted = job not in ("import latebolt", "encode a query, int8")
            rows.append({"job": job, "documents": n if counted else None, **found})
            print(rows[-1], file=sys.stderr, flush=True)
    record("memory", rows, quick=given.quick)


if __name__ == "__main__":
    main()
