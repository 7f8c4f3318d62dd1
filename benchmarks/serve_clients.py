"""The clients of `serve.py`: a process of its own that asks over loopback and costs the machine little.

Raw HTTP on asyncio streams with connections kept alive. Reads a task as JSON from standard input, and writes
what came of it as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

HOST = "127.0.0.1"
WORDS = (16, 48)  # of a passage
INDEX = "texts"  # what is searched
WRITTEN = "written"  # what the mixed load adds to
IDS_A_WRITER = 200  # all writers together have less than one search may find

Answer = tuple[int, bytes]


class Texts:
    """Real texts, cut differently at every draw, so that hardly one comes twice."""

    def __init__(self, path: Path, seed: int) -> None:
        held = json.loads(path.read_text())
        self._documents = [text.split() for text in held["documents"]]
        self._queries: list[str] = held["queries"]
        self._passages: int = held["passages"]
        self._random = random.Random(seed)

    def query(self) -> str:
        """One of the questions."""
        return self._random.choice(self._queries)

    def passage(self) -> str:
        """So many words of a document, from anywhere in it."""
        words, n = self._random.choice(self._documents), self._random.randint(*WORDS)
        start = self._random.randint(0, max(0, len(words) - n))
        return " ".join(words[start : start + n])

    def reranking(self) -> tuple[str, list[str]]:
        """A query and as many passages as the texts are to be asked about with."""
        return self.query(), [self.passage() for _ in range(self._passages)]


def request(path: str, content: Any, claimed: int | None = None) -> bytes:
    """A POST of JSON, head and body; the head may claim another length."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    length = len(body) if claimed is None else claimed
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


def rerank_request(texts: Texts) -> bytes:
    """One query with its passages."""
    query, passages = texts.reranking()
    return request("/v1/rerank", {"query": query, "documents": passages, "return_documents": False})


def search_request(texts: Texts) -> bytes:
    """The ten best of INDEX."""
    return request(f"/v1/indexes/{INDEX}/search", {"query": texts.query(), "k": 10})


def parse_head(head: bytes) -> tuple[int, int]:
    """Status, and bytes of the body."""
    _, found, rest = head.lower().partition(b"content-length: ")
    return int(head[9:12]), int(rest.split(b"\r\n", 1)[0]) if found else 0


class Client:
    """A connection that is opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> asyncio.StreamReader:
        """Write, and wait until it is on its way."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port, limit=1 << 20)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        return reader

    async def ask(self, data: bytes) -> Answer:
        """Status and body of the answer.

        Raises:
            OSError, EOFError: the server closed the connection.
        """
        reader = await self.send(data)
        head = await reader.readuntil(b"\r\n\r\n")
        status, size = parse_head(head)
        body = await reader.readexactly(size)
        if b"connection: close" in head.lower():
            self.close()
        return status, body

    def close(self) -> None:
        """Leave, at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


async def steady(task: dict[str, Any]) -> dict[str, Any]:
    """Latencies of clients that ask again as soon as they have an answer.

    They count from when each client has had its first answer, for `seconds` and until each has had two more;
    neither is waited for longer than `most_s`.
    """
    make = {"rerank": rerank_request, "search": search_request}[task["work"]]
    texts = Texts(Path(task["texts"]), task["seed"])
    repeated, draw = [make(texts) for _ in range(task["repeated"])], random.Random(task["seed"])
    n, seconds, most = task["clients"], task["seconds"], task["most_s"]
    answered, times, refused = [0] * n, [[] for _ in range(n)], Counter()
    counting = False

    async def client(i: int) -> None:
        connection = Client(task["port"])
        while True:
            data = draw.choice(repeated) if repeated else make(texts)
            start = time.perf_counter()
            status, _ = await connection.ask(data)
            if status != 200:
                refused[status] += 1
                await asyncio.sleep(0.1)
            elif counting:
                times[i].append(time.perf_counter() - start)
            answered[i] += 1

    async def until(enough: Callable[[], bool], least: float) -> float:
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < least or (not enough() and passed < most):
            await asyncio.sleep(0.05)
            for each in clients:
                if each.done():
                    each.result()
        return time.perf_counter() - start

    clients = [asyncio.create_task(client(i)) for i in range(n)]
    await until(lambda: min(answered) >= 1, min(1.0, seconds))
    counting, cpu = True, time.process_time()
    took = await until(lambda: min(map(len, times)) >= 2, seconds)
    counting, cpu = False, time.process_time() - cpu
    for each in clients:
        each.cancel()
    every = [one for each in times for one in each]
    p50, p95, p99 = np.percentile(every, (50, 95, 99)) * 1e3
    return {
        "requests_per_s": len(every) / took,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "slowest_client_ms": max(1e3 * float(np.median(each)) if each else np.inf for each in times),
        "requests": len(every),
        "refused": sum(refused.values()),
        "client_cpu_ms": 1e3 * cpu / len(every),
    }


class Mixed:
    """Clients of every kind at one server."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._port, self._seed = task["port"], task["seed"]
        self._texts = Texts(Path(task["texts"]), task["seed"])
        self._random = random.Random(task["seed"])
        self._first = task["first_revision"]
        self._pause, self._huge_passages = task["pause"], task["huge"]
        self.acknowledged: dict[str, int] = {}  # id -> revision
        self.statuses: dict[str, Counter[int]] = {}
        self.broken: Counter[str] = Counter()
        self.own_faults: Counter[str] = Counter()
        self.thrown_out = 0

    async def run(self, kinds: dict[str, int], seconds: float) -> None:
        """So many clients of each kind, for so long."""
        end = time.monotonic() + seconds
        tasks = [self._repeat(kind, i, end) for kind, n in kinds.items() for i in range(n)]
        await asyncio.gather(*tasks)

    async def _repeat(self, kind: str, i: int, end: float) -> None:
        act: Callable[[Client, int], Awaitable[Answer | None]] = getattr(self, f"_{kind}")
        client = Client(self._port)
        while time.monotonic() < end:
            try:
                answer = await asyncio.wait_for(act(client, i), 90)
            except (OSError, EOFError) as error:
                client.close()
                self.broken[f"{kind}: {type(error).__name__}"] += 1
                await asyncio.sleep(0.05)
                if kind == "write":
                    return  # the server is gone
                continue
            if answer is not None:
                self.statuses.setdefault(kind, Counter())[answer[0]] += 1
                if answer[0] >= 500:
                    code = json.loads(answer[1]).get("code", "") if answer[1][:1] == b"{" else ""
                    self.own_faults[f"{kind}: {answer[0]} {code}".strip()] += 1
            await asyncio.sleep(self._pause)
        client.close()

    async def _rerank(self, client: Client, _: int) -> Answer:
        return await client.ask(rerank_request(self._texts))

    async def _search(self, client: Client, _: int) -> Answer:
        mode = self._random.choice(("late", "late", "hybrid", "bm25"))
        content = {"query": self._texts.query(), "mode": mode, "explain": self._random.random() < 0.2}
        return await client.ask(request(f"/v1/indexes/{WRITTEN}/search", content))

    async def _write(self, client: Client, writer: int) -> Answer:
        """Add or replace; what the server says is on disk is remembered."""
        id = f"{writer}-{self._random.randrange(IDS_A_WRITER)}"
        revision = self._first = self._first + 1
        document = {"id": id, "text": self._texts.passage(), "metadata": {"revision": revision}}
        answer = await client.ask(request(f"/v1/indexes/{WRITTEN}/documents", {"documents": [document]}))
        if answer[0] == 200:
            self.acknowledged[id] = revision
        return answer

    async def _huge(self, client: Client, _: int) -> Answer:
        """Two hundred long passages, or as many as the task says; sometimes more than a body may have."""
        if self._random.random() < 0.2:
            return await client.ask(request("/v1/rerank", b"", claimed=99_000_000))
        passages = [" ".join(self._texts.passage() for _ in range(8)) for _ in range(self._huge_passages)]
        return await client.ask(request("/v1/rerank", {"query": "huge", "documents": passages}))

    async def _malformed(self, client: Client, _: int) -> Answer:
        body = self._random.choice((b"{", b"[]", b"null", b'{"query": 1}', b"\xff", b"[" * 10_000))
        data = request(self._random.choice(("/v1/rerank", "/v1/embeddings", "/v1/nothing")), body)
        if self._random.random() < 0.2:
            client.close()
            data = self._random.choice((b"nonsense\r\n\r\n", data.replace(b"POST", b"P\x00ST")))
        answer = await client.ask(data)
        await asyncio.sleep(0.02)
        return answer

    async def _slow(self, client: Client, _: int) -> None:
        """Stops before the head, in it, or in the body; then leaves, or stays until it is thrown out."""
        data = rerank_request(self._texts)
        head = data.index(b"\r\n\r\n") + 4
        reader = await client.send(data[: self._random.choice((0, head // 2, head + 10))])
        if self._random.random() < 0.5:
            await asyncio.sleep(5 * self._random.random())
        else:
            await reader.read()  # to its end, which the server has to make
            self.thrown_out += 1
        client.close()

    async def _leaving(self, client: Client, _: int) -> None:
        """Asks, and leaves before the answer."""
        await client.send(rerank_request(self._texts))
        await asyncio.sleep(0.3 * self._random.random())
        client.close()


async def mixed(task: dict[str, Any]) -> dict[str, Any]:
    """Clients of every kind for `seconds`; or writers until the server is gone."""
    load = Mixed(task)
    await load.run(task["kinds"], task["seconds"])
    classes = Counter()
    for statuses in load.statuses.values():
        for status, n in statuses.items():
            classes[f"{status // 100}xx"] += n
    return {
        "classes": dict(sorted(classes.items())),
        "statuses": {kind: dict(sorted(found.items())) for kind, found in load.statuses.items()},
        "broken": dict(load.broken),
        "own_faults": dict(load.own_faults),
        "thrown_out": load.thrown_out,
        "acknowledged": load.acknowledged,
    }


def main() -> None:
    """One task."""
    task = json.load(sys.stdin)
    run = {"steady": steady, "mixed": mixed}[task["kind"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(task))))


if __name__ == "__main__":
    main()
