"""What does a copy in Qdrant take and give, beside the index it was made from?

Real documents and queries (squad, at LATEBOLT_DATA), the starter's vectors of 128 dimensions, the same
for all, in Qdrant's own engine (qdrant-edge-py): no server, no network, both in this process. Seconds to
write, bytes on disk a token, milliseconds a query, and the share of the exact top ten that is found. Needs
`pip install 'latebolt[cpu,eval,qdrant-edge]'`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, data_folder, folder_bytes, record
from latebolt import Encoder, Index, TokenVectors, maxsim
from latebolt.adapters.qdrant_edge import Shard
from latebolt.evaluate import read_collection

K = 10
# (name, first stage, quantization, exhaustive). Not a graph of multivectors, which takes minutes to build.
SHARDS: tuple[tuple[str, Any, Any, bool], ...] = (
    ("Qdrant, MaxSim of all", "mean", None, True),
    ("Qdrant, first stage mean", "mean", None, False),
    ("Qdrant, first stage pooled", "pooled", None, False),
    ("Qdrant, mean, scalar", "mean", "scalar", False),
    ("Qdrant, mean, binary", "mean", "binary", False),
)


def main() -> None:
    """Build one after another, ask all the same."""
    options = arguments(__doc__)
    found = read_collection(data_folder() / "squad")
    encoder = Encoder.load("starter", dim=128, threads=options.threads)
    texts, n_queries = list(found.documents.values()), 100
    if options.quick:
        texts, n_queries = texts[:300], 20
    n_documents = len(texts)
    vectors = encoder.encode_documents(texts)
    asked = encoder.encode_queries(list(found.queries.values())[:n_queries])
    exact = [set(np.argsort(-maxsim(query, vectors))[:K].tolist()) for query in asked]
    ids = [str(i) for i in range(n_documents)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        index = Index.create(Path(folder) / "index", None, bits=2, dim=128)
        index.add_vectors(ids, vectors)
        built = time.perf_counter() - start
        for name, exhaustive in (("latebolt 2 bit", False), ("latebolt 2 bit, exhaustive", True)):
            row = ask(lambda q, e=exhaustive: index.search_vectors(q, K, exhaustive=e), asked, exact)
            rows.append({"name": name, **row, **size(index.path, built, vectors)})
        for name, first_stage, quantization, exhaustive in SHARDS:
            place = Path(folder) / "shard"
            start = time.perf_counter()
            with Shard.create(place, dim=128, first_stage=first_stage, quantization=quantization) as shard:
                shard.add_vectors(ids, vectors)
                shard.optimize()
                shard.shard.flush()
                built = time.perf_counter() - start
                row = ask(lambda q, s=shard, e=exhaustive: s.search_vectors(q, K, exhaustive=e), asked, exact)
                rows.append({"name": name, **row, **size(place, built, vectors)})
            for path in sorted(place.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            place.rmdir()
    for row in rows:
        row |= {"documents": n_documents, "tokens": vectors.n_tokens, "queries": n_queries}
    record("qdrant", rows, ("qdrant-edge-py",), options.quick)


def ask(search: Any, queries: TokenVectors, exact: list[set[int]]) -> dict[str, Any]:
    """Median and 95th percentile of one query after another, and what was found."""
    times, shared = [], 0
    search(queries[0])
    for query, wanted in zip(queries, exact, strict=True):
        start = time.perf_counter()
        hits = search(query)
        times.append(1e3 * (time.perf_counter() - start))
        shared += len(wanted & {int(hit.id) for hit in hits})
    low, high = np.percentile(times, (50, 95))
    return {"p50_ms": float(low), "p95_ms": float(high), "overlap": shared / (K * len(queries))}


def size(folder: Path, built_s: float, vectors: TokenVectors) -> dict[str, float]:
    """Seconds to write, and bytes in the folder a token, sparse files by what they take."""
    return {"build_s": built_s, "bytes_per_token": folder_bytes(folder) / vectors.n_tokens}


if __name__ == "__main__":
    main()
