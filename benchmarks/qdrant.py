"""What does a copy in Qdrant take and give, beside the index it was made from?

Real documents and queries (cosqa, at LATEBOLT_DATA), the starter's vectors of 128 dimensions, the same for
all, in Qdrant's own engine (qdrant-edge-py): no server, no network, both in this process. Every storage with
every first stage: bytes on disk a token, without the log of writes; in memory a token once the queries were
asked, in a process of its own, without pages of files that were set aside and never written; milliseconds a
query; and the share of the exact top ten that is found. Each storage is asked with MaxSim of all, too. Needs
`pip install 'latebolt[cpu,eval,qdrant-edge]'`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, data_folder, folder_bytes, record, status_mb
from latebolt import Encoder, Index, TokenVectors, maxsim
from latebolt.adapters.qdrant_common.shape import NewPoint, point_id
from latebolt.adapters.qdrant_common.storage import STORAGES
from latebolt.adapters.qdrant_edge import Shard
from latebolt.adapters.stages.base import MeanStage, PooledStage, Stage
from latebolt.adapters.stages.learned import FEATURES, LearnedStage
from latebolt.evaluate import read_collection

K = 10
DIM = 128
NARROW = 64
DOCUMENTS = 2500


def main() -> None:
    """Build one after another, ask all the same."""
    options = arguments(__doc__, resident="", queries="")
    if options.resident:
        print(json.dumps(resident(options.resident, options.queries)))
        return
    found = read_collection(data_folder() / "cosqa")
    encoder = Encoder.load("starter", dim=DIM, threads=options.threads)
    texts, n_queries, storages = list(found.documents.values())[:DOCUMENTS], 100, list(reversed(STORAGES))
    if options.quick:
        texts, n_queries, storages = texts[:100], 5, ["float32", "turbo4"]
    questions = list(found.queries.values())[:n_queries]
    vectors, asked = encoder.encode_documents(texts), encoder.encode_queries(questions)
    exact = [set(np.argsort(-maxsim(query, vectors), kind="stable")[:K].tolist()) for query in asked]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for bits in (2, 4):
            rows += ours(root, f"latebolt {bits} bit", bits, vectors, asked, exact)
        stages = stages_of(vectors, 64 if options.quick else FEATURES)
        for storage in storages:
            for number, (stage, made_s, firsts) in enumerate(stages):
                with built(root / "shard", storage, stage, firsts, vectors) as (shard, build_s):
                    about = {"storage": storage, "first stage": stage.name.split("/")[0], "dim": DIM}
                    if isinstance(stage, PooledStage):
                        about["first stage"] = f"pooled, one of {stage.factor}"
                    name = f"Qdrant {storage}, {about['first stage']}"
                    about["build_s"] = made_s + build_s
                    if number == 0:
                        row = ask(lambda q, s=shard: s.search_vectors(q, K, exhaustive=True), asked, exact)
                        everything = {"storage": storage, "first stage": "none, MaxSim of all", "dim": DIM}
                        rows.append({"name": f"Qdrant {storage}, MaxSim of all", **everything, **row})
                    row = ask(lambda q, s=shard: s.search_vectors(q, K), asked, exact)
                    sizes = size(root / "shard", vectors)
                    shard.close()
                    rows.append({"name": name, **about, **row, **sizes})
                    if not options.quick or name == "Qdrant turbo4, mean":
                        rows[-1] |= in_memory(root, asked, vectors)
        rows += narrow(root, encoder, texts, questions, exact, storages)
    for row in rows:
        row |= {"documents": len(texts), "tokens": vectors.n_tokens, "queries": n_queries}
    record("qdrant", rows, ("qdrant-edge-py",), options.quick)


def stages_of(vectors: TokenVectors, features: int) -> list[tuple[Stage, float, list[Any]]]:
    """Each first stage, seconds that it took, and its vectors of the documents."""
    made: list[tuple[Stage, float, list[Any]]] = []
    for make in (
        lambda: MeanStage(DIM),
        lambda: PooledStage(DIM, 32),
        lambda: PooledStage(DIM, 8),
        lambda: LearnedStage.fit(vectors, features=features),
    ):
        start = time.perf_counter()
        stage = make()
        firsts = stage.of_documents(list(vectors))
        made.append((stage, time.perf_counter() - start, firsts))
    return made


class built:  # noqa: N801 - used as a context manager, like `open`
    """A shard with all documents, and seconds that it took; removed at the end."""

    def __init__(
        self, folder: Path, storage: str, stage: Stage, firsts: list[Any], vectors: TokenVectors
    ) -> None:
        self._folder = folder
        start = time.perf_counter()
        self._shard = Shard.create(folder, dim=vectors.dim, first_stage=stage, storage=storage)
        self._shard.write(
            NewPoint(point_id(str(i)), self._shard.payload(str(i), None, None), matrix, first)
            for i, (matrix, first) in enumerate(zip(vectors, firsts, strict=True))
        )
        self._shard.optimize()
        self._shard.shard.flush()
        self._seconds = time.perf_counter() - start

    def __enter__(self) -> tuple[Shard, float]:
        return self._shard, self._seconds

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)


def ours(
    root: Path, name: str, bits: int, vectors: TokenVectors, asked: TokenVectors, exact: list[set[int]]
) -> list[dict[str, Any]]:
    """An index, searched and searched whole."""
    start = time.perf_counter()
    index = Index.create(root / f"index-{vectors.dim}-{bits}", None, bits=bits, dim=vectors.dim)
    index.add_vectors([str(i) for i in range(len(vectors))], vectors)
    about = {"storage": f"{bits} bit", "dim": vectors.dim, "build_s": time.perf_counter() - start}
    rows = []
    for exhaustive in (False, True):
        row = ask(lambda q, e=exhaustive: index.search_vectors(q, K, exhaustive=e), asked, exact)
        sizes = {"bytes_per_token": folder_bytes(index.path) / vectors.n_tokens}
        title = f"{name}, exhaustive" if exhaustive else name
        rows.append({"name": title, "first stage": "its own", **about, **row, **sizes})
    return rows


def narrow(
    root: Path,
    encoder: Encoder,
    texts: list[str],
    questions: list[str],
    exact: list[set[int]],
    storages: list[str],
) -> list[dict[str, Any]]:
    """The same model's vectors of 64 dimensions, against what 128 find."""
    small = encoder.with_dim(NARROW)
    vectors, asked = small.encode_documents(texts), small.encode_queries(questions)
    rows = ours(root, f"latebolt 2 bit, dim {NARROW}", 2, vectors, asked, exact)[:1]
    stage = MeanStage(NARROW)
    firsts = stage.of_documents(list(vectors))
    for storage in (each for each in storages if each not in ("int8", "float32")):
        with built(root / "shard", storage, stage, firsts, vectors) as (shard, build_s):
            row = ask(lambda q, s=shard: s.search_vectors(q, K), asked, exact)
            sizes = size(root / "shard", vectors)
            shard.close()
            about = {"storage": storage, "first stage": "mean", "dim": NARROW, "build_s": build_s}
            name = f"Qdrant {storage}, mean, dim {NARROW}"
            rows.append({"name": name, **about, **row, **sizes})
    return rows


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


def size(folder: Path, vectors: TokenVectors) -> dict[str, float]:
    """Bytes in the folder a token, sparse files by what they take; the log of writes apart."""
    log = folder_bytes(folder / "wal")
    return {
        "bytes_per_token": (folder_bytes(folder) - log) / vectors.n_tokens,
        "log_bytes_per_token": log / vectors.n_tokens,
    }


def in_memory(root: Path, asked: TokenVectors, vectors: TokenVectors) -> dict[str, float]:
    """Bytes a token that a shard takes in another process once it was opened and asked."""
    queries = root / "queries.npz"
    np.savez(queries, values=asked.values, offsets=asked.offsets)
    command = [sys.executable, __file__, "--resident", str(root / "shard"), "--queries", str(queries)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"resident_bytes_per_token": float(json.loads(done.stdout)) / vectors.n_tokens}


def resident(folder: str, queries: str) -> float:
    """Bytes that a shard takes in this process once all queries were asked."""
    stored = np.load(queries)
    asked = TokenVectors(stored["values"], stored["offsets"])
    before = status_mb("RssAnon")
    with Shard.open(folder) as shard:
        for query in asked:
            shard.search_vectors(query, K)
        return 1e6 * (status_mb("RssAnon") - before) + mapped_bytes(Path(folder))


def mapped_bytes(folder: Path) -> float:
    """Bytes of the folder's files, but for its log, that this process has in memory."""
    maps, total, file = Path("/proc/self/smaps"), 0, None
    for line in maps.read_text().splitlines() if maps.exists() else ():
        first = line.split(maxsplit=5)
        if first[0][-1] != ":":
            file = Path(first[5]) if len(first) > 5 and first[5].startswith(f"{folder}/") else None
        elif first[0] == "Rss:" and file is not None and "wal" not in file.relative_to(folder).parts:
            total += min(1024 * int(first[1]), 512 * file.stat().st_blocks)
    return float(total)


if __name__ == "__main__":
    main()
