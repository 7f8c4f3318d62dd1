"""What do shards on a Ray cluster cost a query, and what is seen of it when replicas and machines die?

A cluster of four nodes on this machine (Ray's own utility for tests): a head, and three that work. Texts of
the standard library's documentation are split into shards, each with two replicas on different nodes; two
servers answer HTTP. Two clients search without a pause, and a third adds documents; every answer is compared
with that of the whole index, ids and scores. Meanwhile something happens, a row each:

requests: answers to searches while it lasted. wrong: those that were not the whole index's.
failed: those that were no success; a server that dies takes what it was working at along.
gap_s: the longest time without any answer. p99_ms: of searches. recovery_s: until all replicas ran again.
acknowledged, lost: documents whose addition was answered with 200, and those of them that are not there
afterwards.

A node is killed by SIGKILL to its raylet and all its workers. `encode --on ray` has a row, too: texts, how
many of them are lost or there twice when a node dies in the middle of it, and seconds of the whole job.

Then the price of it, on a quiet cluster of one node: p50 of one client, and queries a second of eight,
through `latebolt serve` of the whole index, and through Ray with 1, 2 and 4 shards, whose answers are
compared first.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from harness import HERE, arguments, read_stdlib, record

sys.path.insert(0, str(HERE.parent / "tests" / "engine" / "adapters"))

from ray_nodes import Load, Nodes, Tally, kill_process, node_of, replicas, stopped

from latebolt import Encoder, Index

SEARCH = "/v1/indexes/docs/search"
SMALL = {"cpus_per_replica": 0.5, "shard_options": {"resources": {"work": 0.01}}}
PATIENCE = 120.0
KILLS = 5  # of nodes


def main() -> None:
    options = arguments(__doc__)
    work = Path(tempfile.mkdtemp(prefix="latebolt-nodes-"))
    try:
        rows = measured(work, options.quick)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    record("nodes", rows, ("ray",), options.quick)


def measured(work: Path, quick: bool) -> list[dict[str, Any]]:
    from latebolt.sharding import split

    n, asked = (60, 6) if quick else (3000, 24)
    texts = [document.text for document in read_stdlib() if 16 <= len(document.text.split()) <= 60][:n]
    encoder = Encoder.load("starter", threads=2)
    with Index.create(work / "docs", encoder) as index:
        index.add(texts, [f"d{i}" for i in range(len(texts))], [{"n": i} for i in range(len(texts))])
        queries = [" ".join(text.split()[3:11]) for text in texts[:: max(1, len(texts) // asked)]]
        bodies = [{"query": query, "k": 10, "where": "n >= 0"} for query in queries]
        expected = [[(hit.id, hit.score) for hit in index.search(**body)] for body in bodies]
    for shards in (1, 2, 4):
        split(work / "docs", work / f"docs.{shards}", shards)

    def right(number: int, hits: list[dict[str, Any]]) -> bool:
        return [(hit["id"], hit["score"]) for hit in hits] == expected[number]

    with cluster(2 if quick else 3) as nodes:
        rows = deaths(nodes, work, bodies, right, quick)
        if quick:
            return rows + prices(work, bodies, right, quick)
    rows.append(encoding(work, texts[:1500], encoder))
    return rows + prices(work, bodies, right, quick)


def deaths(
    nodes: Nodes, work: Path, bodies: list[dict[str, Any]], right: Callable[..., bool], quick: bool
) -> list[dict[str, Any]]:
    """What is seen of what happens."""
    from latebolt.adapters.ray.serve import deploy

    pause, shards, each, servers = (0.1, 1, 1, 1) if quick else (0.0, 2, 2, 2)
    spread = {"server_options": {"num_cpus": 0.5, "resources": {"work": 0.01}}, "servers": servers}
    a_node = {} if quick else {"replicas_per_node": 1}
    url = deploy({"docs": work / f"docs.{shards}"}, replicas=each, **a_node, **spread, **SMALL)
    wanted = {**{f"docs-{number}": each for number in range(shards)}, "server": servers}

    def replica_dies() -> None:
        kill_process(next(iter(replicas("docs-0").values())))

    def replica_hangs() -> None:
        with stopped(next(iter(replicas("docs-1").values()))):
            time.sleep(5)

    def node_dies() -> None:
        nodes.kill(node_of(next(iter(replicas("server").values())), nodes))

    happenings = {
        "nothing": lambda: time.sleep(0.1 if quick else 10),
        "a shard's replica is killed": replica_dies,
        "a shard's replica hangs for 5 s": replica_hangs,
    }
    if quick:
        happenings = {name: each for name, each in happenings.items() if "replica" not in name}
    rows = [happens(url, name, each, wanted, bodies, right, pause) for name, each in happenings.items()]
    for number in range(1 if quick else KILLS):  # what is seen of it is not the same each time
        name = "a node is killed, with a server on it" + ("" if quick else f", {number + 1} of {KILLS}")
        rows.append(happens(url, name, node_dies, wanted, bodies, right, pause))
        if not quick:
            nodes.others.append(nodes.add())
    return rows


def happens(
    url: str,
    name: str,
    happening: Callable[[], None],
    wanted: dict[str, int],
    bodies: list[dict[str, Any]],
    right: Callable[..., bool],
    pause: float,
) -> dict[str, Any]:
    """A row.

    Args:
        wanted: replicas of each deployment, without which it has not recovered.
    """
    with Load(url, bodies, right, writes=True, pause=pause) as load:
        load.wait_for(20)
        load.tally = tally = Tally(acknowledged=load.tally.acknowledged)
        begun = time.monotonic()
        happening()
        recovery = time.monotonic() - begun
        if name != "nothing":
            while any(len(replicas(each)) != n for each, n in wanted.items()):
                assert time.monotonic() < begun + PATIENCE, "replicas do not come back"
                time.sleep(0.1)
            recovery = time.monotonic() - begun
        load.wait_for(20)
    with httpx.Client(base_url=url, timeout=60) as client:
        lost = 0
        for first in range(0, len(tally.acknowledged), 1000):
            asked = {"ids": tally.acknowledged[first : first + 1000]}
            answer = client.post("/v1/indexes/docs/documents/get", json=asked)
            lost += answer.raise_for_status().json()["documents"].count(None)
        client.post("/v1/indexes/docs/documents/delete", json={"where": "not exists(n)"})
    assert not tally.wrong and not lost, (tally.wrong, lost)
    return {
        "what": name,
        "requests": tally.asked,
        "wrong": len(tally.wrong),
        "failed": len(tally.failed),
        "gap_s": float(np.max(np.diff([begun, *tally.moments]))),
        "p99_ms": 1e3 * float(np.percentile(tally.seconds, 99)),
        "recovery_s": recovery if name != "nothing" else 0.0,
        "acknowledged": len(tally.acknowledged),
        "lost": lost,
    }


def encoding(work: Path, texts: list[str], encoder: Encoder) -> dict[str, Any]:
    """A node is killed while texts are encoded."""
    import pyarrow as pa
    import ray.data

    from latebolt.adapters.parquet import read_parts
    from latebolt.adapters.ray import write_parts

    ids, out = [f"d{i}" for i in range(len(texts))], work / "parts"
    with cluster(3) as nodes:
        ray.data.DataContext.get_current().enable_progress_bars = False

        def kill() -> None:
            while len(list(out.glob("part-*"))) < 4:
                time.sleep(0.02)
            while not (drafts := list(out.glob(".part-*.draft"))):
                time.sleep(0.001)
            nodes.kill(node_of(int(drafts[0].name.split("-")[-2]), nodes))

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        begun = time.monotonic()
        remote = {"num_cpus": 0.5, "resources": {"work": 0.01}}
        table = ray.data.from_arrow(pa.table({"id": ids, "text": texts}))
        write_parts(table, out, workers=(2, 2), rows_per_part=12, ray_remote_args=remote)
        seconds = time.monotonic() - begun
        killer.join()
    found = [id for part in read_parts(out) for id in part.ids]
    lost, twice = len(set(ids) - set(found)), len(found) - len(set(found))
    assert not lost and not twice
    row = {"what": "encode --on ray, a node is killed", "requests": len(texts), "wrong": twice, "failed": 0}
    return {**row, "recovery_s": seconds, "acknowledged": len(texts), "lost": lost}


def prices(
    work: Path, bodies: list[dict[str, Any]], right: Callable[..., bool], quick: bool
) -> list[dict[str, Any]]:
    """p50 and queries a second, whole and in shards, on the cluster that there is, or one of their own."""
    import ray
    from ray import serve

    from latebolt.adapters.ray.serve import deploy

    rows = []
    with served(work / "docs") as url:
        rows.append(priced("latebolt serve, one index", url, bodies, right, quick))
    joined = ray.is_initialized()
    options = SMALL if joined else {"cpus_per_replica": 0.25, "settings": {"port": free_port()}}
    try:
        for shards in (2,) if quick else (1, 2, 4):
            url = deploy({"docs": work / f"docs.{shards}"}, **options)
            rows.append(priced(f"Ray, {shards} shards", url, bodies, right, quick))
    finally:
        if not joined:
            serve.shutdown()
            ray.shutdown()
    for row in rows[1:]:
        row["over_whole_ms"] = row["p50_ms"] - rows[0]["p50_ms"]
    return rows


def priced(
    what: str, url: str, bodies: list[dict[str, Any]], right: Callable[..., bool], quick: bool
) -> dict[str, Any]:
    """A row."""
    plain = [{name: each[name] for name in ("query", "k")} for each in bodies]
    with httpx.Client(base_url=url, timeout=60) as client:
        for number, body in enumerate(bodies):
            hits = client.post(SEARCH, json=body).raise_for_status().json()["hits"]
            assert right(number, hits), f"{what}: hits are not those of the whole index"
        seconds = []
        for round_ in range((5 if quick else 600) + 20):
            begun = time.perf_counter()
            client.post(SEARCH, json=plain[round_ % len(plain)])
            seconds.append(time.perf_counter() - begun)
    with Load(url, plain, lambda number, hits: bool(hits), threads=8, pause=0.0) as load:
        load.wait_for(8)
        asked, begun = load.tally.asked, time.monotonic()
        time.sleep(0.2 if quick else 8)
        a_second = (load.tally.asked - asked) / (time.monotonic() - begun)
    assert not load.tally.failed, load.tally.failed[0]
    return {"what": what, "p50_ms": 1e3 * float(np.median(seconds[20:])), "queries_a_second": a_second}


@contextlib.contextmanager
def cluster(others: int) -> Iterator[Nodes]:
    """Nodes, and Ray Serve on the head of them."""
    from ray import serve

    nodes = Nodes(others)
    try:
        http = {"host": "127.0.0.1", "port": free_port()}
        serve.start(proxy_location="HeadOnly", http_options=http)
        yield nodes
        serve.shutdown()
    finally:
        nodes.close()


@contextlib.contextmanager
def served(index: Path) -> Iterator[str]:
    """`latebolt serve`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "latebolt", "serve", "--index", f"docs={index}", "--data", data]
        server = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/ready").status_code == 200:
                        break
                assert server.poll() is None
                time.sleep(0.05)
            yield url
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
