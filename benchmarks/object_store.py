"""What does an index in an object store cost: to publish, to open, to follow, to search?

Documents of random token vectors and short texts, at 4 bits, published to a folder (file://) and to S3 as
moto
serves it from a process of its own: its times are those of a server in Python on this machine, without a
network, and say what ours adds. A new commit is followed by a reader that looks with every search. Searches
are those of the plain folder and of the copy; the answers of both are compared first.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, measure, record
from latebolt import Index, TokenVectors
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.prune import prune
from latebolt.objects.publish import Publication, publish

DIM, TOKENS = 64, 60
SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """A bucket as a URI; the server goes with the block."""
    import s3fs

    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        try:
            host, port = server.stdout.readline().split()[-2:]
            keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
            os.environ |= {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
            s3fs.S3FileSystem().mkdir("bucket")
            yield "s3://bucket/notes"
        finally:
            server.stdin.close()


def vectors(n: int, seed: int) -> TokenVectors:
    """n documents of TOKENS random unit vectors."""
    values = np.random.default_rng(seed).standard_normal((n * TOKENS, DIM), np.float32)
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    return TokenVectors(values, np.arange(n + 1, dtype=np.int64) * TOKENS)


def add(index: Index, n: int, seed: int) -> None:
    """n documents in one commit."""
    ids = [f"{seed}-{i}" for i in range(n)]
    index.add_vectors(ids, vectors(n, seed), texts=[f"the text of document {each}" for each in ids])


def timed(work: Any) -> tuple[Any, float]:
    """What it gives, and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def row_of(store: str, step: str, seconds: float, **figures: Any) -> dict[str, Any]:
    """A line of the record."""
    row = {"store": store, "step": step, "seconds": seconds, **figures}
    print(json.dumps(row), flush=True)
    return row


def published(store: str, step: str, done: Publication, seconds: float) -> dict[str, Any]:
    """A line about a publication."""
    return row_of(store, step, seconds, objects=done.uploaded, MB=done.uploaded_bytes / 1e6)


def run(name: str, uri: str, work: Path, documents: int, rounds: int) -> list[dict[str, Any]]:
    """All steps at one place."""
    index = Index.create(work / "index", None, dim=DIM, bits=4)
    add(index, documents, 0)
    place, cache = ObjectStore(uri), work / "cache"
    queries = [vectors(1, 100 + i).values[:16] for i in range(8)]
    done, seconds = timed(lambda: publish(index.path, place))
    rows = [published(name, "publish", done, seconds)]
    reader, seconds = timed(lambda: Index.open(uri, cache=cache, refresh=None))
    rows.append(row_of(name, "open, nothing copied yet", seconds, MB=reader.info()["bytes"] / 1e6))
    for query in queries:
        assert reader.search_vectors(query) == index.search_vectors(query), "the copy answers otherwise"
    _, seconds = timed(lambda: Index.open(uri, cache=cache).close())
    rows.append(row_of(name, "open, copied before", seconds))
    add(index, documents // 50, 1)
    done, seconds = timed(lambda: publish(index.path, place))
    rows.append(published(name, "publish an addition of 2 %", done, seconds))
    _, seconds = timed(reader.refresh)
    assert len(reader) == len(index)
    rows.append(row_of(name, "refresh, with that addition", seconds))
    done, seconds = timed(lambda: publish(index.path, place))
    assert not done.new
    rows.append(published(name, "publish, nothing new", done, seconds))
    with Index.open(uri, cache=cache, refresh=0) as follower:
        follower.search_vectors(queries[0])
        add(index, 1, 2)
        publish(index.path, place)
        start, n = time.perf_counter(), 0
        while len(follower) != len(index):
            follower.search_vectors(queries[0])
            n += 1
        rows.append(row_of(name, "until a reader has a new commit", time.perf_counter() - start, searches=n))
    reader.refresh()
    for what, opened in (("folder", index), ("copy", reader)):
        turn = itertools.cycle(queries)
        times = measure(lambda opened=opened, turn=turn: opened.search_vectors(next(turn)), rounds)
        rows.append(row_of(name, f"search, {what}, p50", times["median_ms"] / 1e3))
    index.delete(["0-0"])
    index.compact()
    done, seconds = timed(lambda: publish(index.path, place))
    rows.append(published(name, "publish what was compacted", done, seconds))
    time.sleep(1.1)  # S3 tells times in seconds
    gone, seconds = timed(lambda: prune(place, 1, 0))
    rows.append(row_of(name, "remove older commits", seconds, objects=gone.objects))
    reader.close()
    return rows


def main() -> None:
    """Both stores."""
    given = arguments(__doc__, documents=20_000)
    documents = 500 if given.quick else given.documents
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary, s3() as bucket:
        for name, uri in (("file://", (Path(temporary) / "published").as_uri()), ("S3 (moto)", bucket)):
            work = Path(temporary) / name.split(":")[0].split()[0]
            work.mkdir()
            rows += run(name, uri, work, documents, 20 if given.quick else 100)
    record("object_store", rows, ("fsspec", "s3fs", "moto"), given.quick)


if __name__ == "__main__":
    main()
