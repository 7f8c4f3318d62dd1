"""What does `latebolt serve` cost beside the library, under many clients, and what is left after rough ones?

The server is a process of its own, its clients are another (`serve_clients.py`), on loopback and on the same
cores. Real texts (squad at LATEBOLT_DATA, or the standard library's docstrings), cut differently at every
request, so that no cache answers. Each client asks again as soon as it has its answer.

- `rerank`: one query with 50 passages of 16 to 48 words; `search`: the ten best of an index.
- `of_embedded`: requests a second over those of the embedded library with the same threads, measured in the
  way that it is fastest (one caller, a caller for each thread, or in batches), just before and after.
- `overhead`: one request after another, server and library in turn for the same query.
- `beside`: searches one after another on an idle server, and while documents are added to the same index.
- `roads`: one search after another, and from 64 clients, on this server and on one where FastAPI's layers do
  what our router and reader do, in turn.
- `--only off,on,beside,roads,mixed` measures some parts; of others the record keeps its rows, with commits.
- `mixed`: slow, huge, malformed and leaving clients beside normal ones; then kill -9 amid additions, and a
  new start, where every acknowledged document has to be.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import serve_clients
from harness import HERE, arguments, commit, data_folder, read_stdlib, record, recorded_rows
from serve_clients import HOST, INDEX, WRITTEN, Texts

CLIENTS = (1, 8, 64, 256)
KINDS = {
    "rerank": 3,
    "search": 4,
    "write": 2,
    "huge": 1,
    "malformed": 1,
    "slow": 4,
    "leaving": 2,
}
WRITERS = {"write": 4}
BATCH = 64  # queries of a call of search_many


def real_texts() -> dict[str, list[str]]:
    """Documents and queries: squad, or the standard library's docstrings and their first words."""
    root = data_folder() / "squad"
    if root.is_dir():
        from latebolt.evaluate import read_collection

        found = read_collection(root)
        return {"documents": list(found.documents.values()), "queries": list(found.queries.values())}
    documents = [document.text for document in read_stdlib()]
    return {"documents": documents, "queries": [" ".join(text.split()[:10]) for text in documents]}


@dataclass
class Server:
    """A running `latebolt serve`."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str) -> str:
        """The body of an answer."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def ask(self, path: str, content: Any) -> Any:
        """The answer to a POST, as JSON."""
        with Caller(self.port) as caller:
            return json.loads(caller.ask(serve_clients.request(path, content)))

    def figure(self, name: str) -> float:
        """One of /metrics, added up over its labels."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M)
        return sum(map(float, found))

    def rest(self) -> None:
        """Wait until nothing is worked on any more."""
        while self.figure("latebolt_requests_in_flight"):
            time.sleep(0.1)

    def held(self) -> dict[str, int]:
        """Memory in MB, threads and descriptors of the process (Linux)."""
        place = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        return {
            "resident_MB": round(int(status["VmRSS"].split()[0]) * 1024 / 1e6),
            "threads": int(status["Threads"]),
            "descriptors": len(list((place / "fd").iterdir())),
        }


@contextlib.contextmanager
def server(
    data: Path, threads: int, *options: str, program: Sequence[str] = ("-m", "latebolt")
) -> Iterator[Server]:
    """A server that is ready; ended with SIGTERM if it still runs."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, *program, "serve", "--data", str(data), "--port", str(port)]
    command += ["--threads", str(threads), "--log-level", "error", "--timeout", "120", *options]
    running = Server(subprocess.Popen(command), port)
    try:
        while True:
            with contextlib.suppress(OSError):
                running.get("/ready")
                break
            if running.process.poll() is not None:
                sys.exit("serve: the server ended before it was ready.")
            time.sleep(0.05)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
        running.process.wait()


class Caller:
    """One client in this process, that adds as little to the server's time as Python can."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, data: bytes) -> bytes:
        """The body of an answer, which has to be one with 2xx."""
        self._socket.sendall(data)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._receive(1 << 16)
        status, size = serve_clients.parse_head(got[: end + 4])
        body = got[end + 4 :]
        while len(body) < size:
            body += self._receive(1 << 20)
        if status // 100 != 2:
            sys.exit(f"serve: the server answered {status}: {body[:200]!r}")
        return body

    def _receive(self, most: int) -> bytes:
        found = self._socket.recv(most)
        if not found:
            sys.exit("serve: the server closed a connection amid an answer, or before it.")
        return found


def clients(running: Server, task: dict[str, Any]) -> subprocess.Popen[str]:
    """The other process, with its task."""
    command = [sys.executable, str(HERE / "serve_clients.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"port": running.port, **task}))
    process.stdin.close()
    process.stdin = None
    return process


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the clients say at their end."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit("serve: the clients failed.")
    found: dict[str, Any] = json.loads(output)
    return found


class Embedded:
    """The library in this process, doing what the server does."""

    def __init__(self, index: Path, texts: Path, threads: int, seconds: float) -> None:
        from latebolt import Encoder, Index

        self._encoder = Encoder.load("starter", threads=threads)
        self._encoder.warmup()
        self.index = Index.open(index, self._encoder)
        self._path, self._threads, self._seconds = texts, threads, seconds
        self._seed = 10_000
        self._best: dict[str, str] = {}

    def _ways(self, work: str) -> dict[str, tuple[int, Callable[[Texts], int]]]:
        """Callers side by side, and what each does again and again."""

        def rerank(texts: Texts) -> int:
            self._encoder.rerank(*texts.reranking())
            return 1

        def search(texts: Texts) -> int:
            self.index.search(texts.query(), 10)
            return 1

        def search_many(texts: Texts) -> int:
            self.index.search_many([texts.query() for _ in range(BATCH)], 10)
            return BATCH

        if work == "rerank":
            return {"one caller": (1, rerank), f"{self._threads} callers": (self._threads, rerank)}
        return {
            "one caller": (1, search),
            f"{self._threads} callers": (self._threads, search),
            f"{BATCH} in a batch": (1, search_many),
        }

    def rate(self, work: str) -> float:
        """Requests a second, in the way that was fastest the first time."""
        ways = self._ways(work)
        if work not in self._best:
            rates = {name: self._rate(*way) for name, way in ways.items()}
            self._best[work] = max(rates, key=lambda name: rates[name])
            print(
                f"embedded {work}, requests/s: { ({k: round(v, 1) for k, v in rates.items()}) }", flush=True
            )
        return self._rate(*ways[self._best[work]])

    def way(self, work: str) -> str:
        """The way that was fastest."""
        return self._best[work]

    def _rate(self, callers: int, act: Callable[[Texts], int]) -> float:
        def repeat(seed: int) -> int:
            texts, done = Texts(self._path, seed), 0
            while not done or time.perf_counter() < end:
                done += act(texts)
            return done

        self._seed += callers
        with ThreadPoolExecutor(callers) as pool:
            start = time.perf_counter()
            end = start + self._seconds
            done = sum(pool.map(repeat, range(self._seed, self._seed + callers)))
            return done / (time.perf_counter() - start)


def steady(
    running: Server, embedded: Embedded, texts: Path, work: str, cache: str, repeated: int, scale: Scale
) -> list[dict[str, Any]]:
    """A row for each number of clients."""
    rows = []
    before = embedded.rate(work)
    for n in scale.clients:
        task = {"kind": "steady", "work": work, "clients": n, "texts": str(texts), "repeated": repeated}
        hits, misses = (
            running.figure("latebolt_cache_hits_total"),
            running.figure("latebolt_cache_misses_total"),
        )
        found = outcome(clients(running, {**task, "seed": n, "seconds": scale.seconds, "most_s": scale.most}))
        running.rest()
        hits = running.figure("latebolt_cache_hits_total") - hits
        misses = running.figure("latebolt_cache_misses_total") - misses
        after = embedded.rate(work)
        row: dict[str, Any] = {"work": work, "cache": cache, "clients": n, **found}
        row["cache_hits_%"] = 100 * hits / max(1.0, hits + misses)
        row |= {"embedded_before": before, "embedded_after": after, "embedded_way": embedded.way(work)}
        row["of_embedded"] = 2 * found["requests_per_s"] / (before + after)
        rows.append(row)
        print(row, flush=True)
        before = after
    return rows


def overhead(running: Server, embedded: Embedded, texts: Path, queries: int) -> dict[str, Any]:
    """One search after another, both in turn with the same query."""
    drawn, inside, outside = Texts(texts, 77), [], []
    with Caller(running.port) as caller:
        for i in range(queries + 20):
            query = drawn.query()
            data = serve_clients.request(f"/v1/indexes/{INDEX}/search", {"query": query, "k": 10})

            def ask_library(query: str = query) -> list[str]:
                return [hit.id for hit in embedded.index.search(query, 10)]

            def ask_server(data: bytes = data) -> bytes:
                return caller.ask(data)

            times = {}
            for act in (ask_library, ask_server) if i % 2 else (ask_server, ask_library):
                start = time.perf_counter()
                answer = act()
                times[act] = 1e3 * (time.perf_counter() - start)
                if act is ask_library:
                    ours = answer
                else:
                    theirs = [hit["id"] for hit in json.loads(answer)["hits"]]
            assert ours == theirs, "server and library should find the same"
            if i >= 20:  # the first ones warm up
                inside.append(times[ask_library])
                outside.append(times[ask_server])
    difference = np.array(outside) - np.array(inside)
    return {
        "work": "overhead",
        "requests": queries,
        "embedded_p50_ms": float(np.median(inside)),
        "p50_ms": float(np.median(outside)),
        "p95_ms": float(np.quantile(outside, 0.95)),
        "overhead_p50_ms": float(np.median(difference)),
    }


def beside(data: Path, held: dict[str, list[str]], threads: int, scale: Scale) -> dict[str, Any]:
    """Latency of a search on an idle server, and while documents are encoded and added to its index."""
    index = f"/v1/indexes/{INDEX}"
    cut = [{"id": str(i), "text": text} for i, text in enumerate(held["documents"][: 2 * scale.documents])]
    before, after = cut[: scale.documents], cut[scale.documents :]
    queries = iter(held["queries"] * 1000)
    with server(data, threads, "--cache-mb", "0") as running, Caller(running.port) as caller:
        running.ask("/v1/indexes", {"name": INDEX})
        running.ask(f"{index}/documents", {"documents": before})

        def search_ms() -> float:
            asked = serve_clients.request(f"{index}/search", {"query": next(queries), "k": 10})
            start = time.perf_counter()
            caller.ask(asked)
            return 1e3 * (time.perf_counter() - start)

        for _ in range(scale.queries // 4):
            search_ms()
        idle = [search_ms() for _ in range(scale.queries)]
        busy: list[float] = []
        with ThreadPoolExecutor(1) as writer:
            began = time.perf_counter()
            added = writer.submit(running.ask, f"{index}/documents", {"documents": after})
            while not added.done():
                busy.append(search_ms())
            seconds = time.perf_counter() - began
        assert added.result()["added"] == len(after), "every document is added"
    row: dict[str, Any] = {"work": "beside", "requests": len(busy), "added_s": len(after) / seconds}
    for name, times in (("idle", idle), ("beside", busy)):
        row |= {f"{name}_p50_ms": float(np.median(times)), f"{name}_p99_ms": float(np.quantile(times, 0.99))}
    return row


def roads(root: Path, held: dict[str, list[str]], texts: Path, threads: int, scale: Scale) -> dict[str, Any]:
    """Our router and FastAPI's layers: the same search on both in turn, then many clients on each in turn."""
    programs = {"router": ("-m", "latebolt"), "fastapi": (str(HERE / "serve_fastapi.py"),)}
    cut = [{"id": str(i), "text": text} for i, text in enumerate(held["documents"][: scale.documents])]
    row: dict[str, Any] = {"work": "roads", "clients": min(64, max(scale.clients))}
    with contextlib.ExitStack() as stack:
        running = {}
        for name, program in programs.items():
            found = stack.enter_context(server(root / name, threads, "--cache-mb", "0", program=program))
            running[name] = found
            found.ask("/v1/indexes", {"name": INDEX})
            found.ask(f"/v1/indexes/{INDEX}/documents", {"documents": cut})
        callers = {name: stack.enter_context(Caller(found.port)) for name, found in running.items()}
        times: dict[str, list[float]] = {name: [] for name in programs}
        drawn = Texts(texts, 78)
        for i in range(scale.queries + 20):
            asked = serve_clients.request(f"/v1/indexes/{INDEX}/search", {"query": drawn.query(), "k": 10})
            answers = set()
            for name in programs if i % 2 else reversed(programs):
                start = time.perf_counter()
                answers.add(callers[name].ask(asked))
                times[name].append(1e3 * (time.perf_counter() - start))
            assert len(answers) == 1, "both answer alike"
        rates: dict[str, list[float]] = {name: [] for name in programs}
        for turn in range(scale.turns):
            for name in programs if turn % 2 else reversed(programs):
                task = {"kind": "steady", "work": "search", "clients": row["clients"], "texts": str(texts)}
                task |= {"repeated": 0, "seed": turn, "seconds": scale.seconds, "most_s": scale.most}
                rates[name].append(outcome(clients(running[name], task))["requests_per_s"])
                running[name].rest()
    for name in programs:
        row |= {
            f"{name}_p50_ms": float(np.median(times[name][20:])),
            f"{name}_a_second": float(np.median(rates[name])),
        }
    return row


def mixed(data: Path, texts: Path, threads: int, seconds: float, scale: Scale) -> dict[str, Any]:
    """The rough load, what it leaves, and what a kill leaves.

    Args:
        scale: its patience, in seconds, is the server's with slow clients; little, so that these meet their
            end often.
    """
    task = {"kind": "mixed", "texts": str(texts), "seconds": seconds, "kinds": KINDS, "first_revision": 0}
    task |= {"pause": scale.pause, "huge": scale.huge}
    row: dict[str, Any] = {"work": "mixed", "seconds": seconds}
    with server(data, threads, "--body-timeout", str(scale.patience)) as running:
        running.ask("/v1/indexes", {"name": WRITTEN})
        row["start"] = running.held()
        load = clients(running, {**task, "seed": 1})
        began = time.monotonic()
        time.sleep(min(60.0, seconds / 3))
        row["early"] = running.held()  # after a minute, or a third of a short run
        found = outcome(load)
        print(f"mixed load: {time.monotonic() - began:.0f} s", flush=True)
        running.rest()
        time.sleep(2 * scale.patience)  # connections that said nothing are closed
        row["end"] = running.held()
        acknowledged = found.pop("acknowledged")
        row |= found
        writers = {**task, "seed": 2, "kinds": WRITERS, "seconds": 60, "first_revision": 1_000_000}
        load = clients(running, writers)
        time.sleep(2.0)
        assert load.poll() is None, "the writers should write until the kill"
        running.process.kill()
        last = outcome(load)["acknowledged"]
        row["acknowledged"], row["acknowledged_before_kill"] = len(acknowledged | last), len(last)
        acknowledged |= last
    with server(data, threads) as running:
        most = {"query": "text", "k": 1000, "exhaustive": True}
        hits = running.ask(f"/v1/indexes/{WRITTEN}/search", most)["hits"]
    there = {hit["id"]: hit["metadata"]["revision"] for hit in hits}
    row["lost"] = sum(there.get(id, -1) < revision for id, revision in acknowledged.items())
    return row


def check(rows: list[dict[str, Any]]) -> None:
    """Refuse a run that shows a fault of the server; its figures have been recorded."""
    for row in rows:
        if row.get("lost"):
            sys.exit(f"serve: {row['lost']} acknowledged documents are lost.")
        if row.get("own_faults"):
            sys.exit(f"serve: the server answered {row['own_faults']}.")
        if stuck := [what for what in row.get("broken", ()) if what.endswith("TimeoutError")]:
            sys.exit(f"serve: clients waited for an answer, or for their end, in vain: {stuck}.")


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    clients: tuple[int, ...]
    seconds: float  # at least, of a number of clients
    most: float  # until each client has had its answers
    embedded: float  # seconds
    queries: int  # of the overhead
    documents: int
    turns: int  # of each of the two roads
    patience: float  # see `mixed`
    pause: float  # seconds of its clients between two requests
    huge: int  # passages of its largest requests
    passages: int  # of a request to rerank


FULL = Scale(CLIENTS, 10.0, 45.0, 4.0, 500, 2000, 4, 5.0, 0.0, 200, 50)
QUICK = Scale((3,), 0.2, 30.0, 0.1, 12, 40, 1, 0.7, 0.15, 2, 8)


def main() -> None:
    """Every load in turn."""
    given = arguments(__doc__, mixed=600.0, only="")
    scale = QUICK if given.quick else FULL
    seconds = min(given.mixed, 4.0) if given.quick else given.mixed
    rows: list[dict[str, Any]] = []
    parts = given.only.split(",") if given.only else ["off", "on", "beside", "roads", "mixed"]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        held, texts = real_texts(), root / "texts.json"
        texts.write_text(json.dumps({**held, "passages": scale.passages}))
        documents = [{"id": str(i), "text": text} for i, text in enumerate(held["documents"])]
        with server(root / "data", given.threads, "--cache-mb", "0") as running:
            running.ask("/v1/indexes", {"name": INDEX})
            running.ask(f"/v1/indexes/{INDEX}/documents", {"documents": documents[: scale.documents]})
            embedded = Embedded(root / "data" / "indexes" / INDEX, texts, given.threads, scale.embedded)
            if "off" in parts:
                rows.append(overhead(running, embedded, texts, scale.queries))
                print(rows[-1], flush=True)
                for work in ("search", "rerank"):
                    rows += steady(running, embedded, texts, work, "off", 0, scale)
        if "on" in parts:
            with server(root / "data", given.threads) as running:
                rows += steady(running, embedded, texts, "rerank", "on", 0, scale)
                rows += steady(running, embedded, texts, "rerank", "on, all in it", 8, scale)
        if "beside" in parts:
            rows.append(beside(root / "beside", held, given.threads, scale))
            print(rows[-1], flush=True)
        if "roads" in parts:
            rows.append(roads(root / "roads", held, texts, given.threads, scale))
            print(rows[-1], flush=True)
        if "mixed" in parts:
            rows.append(mixed(root / "mixed", texts, given.threads, seconds, scale))
            print(rows[-1], flush=True)
    for row in rows:
        row |= {"threads": given.threads, "commit": commit()}
    kept = [] if given.quick else [row for row in recorded_rows("serve") if part_of(row) not in parts]
    record("serve", [*rows, *kept], ("uvicorn", "fastapi", "httptools", "uvloop"), given.quick)
    check(rows)


def part_of(row: dict[str, Any]) -> str:
    """What `--only` calls the part that made a row."""
    if row["work"] in ("beside", "roads", "mixed"):
        return str(row["work"])
    return "on" if row.get("cache", "off").startswith("on") else "off"


if __name__ == "__main__":
    main()
