"""A stand-in for a Qdrant server: its REST interface, as far as the adapter uses it, over the client's local
engine.

It is for what only a connection has: requests as the real client sends them, their sizes, refusals, and a
server that goes away in the middle. What a search finds is tested on the engines themselves. Bodies are read
into the client's own models, which are generated from the server's OpenAPI description, so that a field that
is not in it is refused.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient
from qdrant_client.http import models

Fault = tuple[int, dict[str, str]] | Callable[[], None] | None


class StandIn:
    """The running server.

    Attributes:
        url: of it.
        faults: of the next writes, first to come: a status with headers instead of an answer, something to
            call after the write and before the answer, or None for nothing.
        log: (method, path, bytes of the body) of each request.
        version: that it says it has.
    """

    def __init__(self) -> None:
        self.engine = QdrantClient(":memory:")
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self.key: str | None = None
        self.version = "1.20.0"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def sizes(self) -> list[int]:
        """Bytes of the writes."""
        return [size for method, path, size in self.log if (method, path[-7:]) == ("PUT", "/points")]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A stand-in that runs while the block does."""
    running = StandIn()
    thread = threading.Thread(
        target=running.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield running
    finally:
        running.server.shutdown()
        running.server.server_close()
        thread.join()


def _handler(own: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            path = self.path.split("?")[0]
            own.log.append((self.command, path, size))
            if own.key is not None and self.headers.get("api-key") != own.key:
                self.reply(403, {"status": {"error": "forbidden"}}, {})
                return
            writes = (self.command, path[-7:]) == ("PUT", "/points")
            fault = own.faults.pop(0) if writes and own.faults else None
            if isinstance(fault, tuple):
                self.reply(fault[0], {"status": {"error": "made up"}}, fault[1])
                return
            with own.lock:
                status, result = _act(own.engine, self.command, path, body)
            if fault is not None:
                fault()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if path == "/":
                self.reply(200, {"title": "stand-in", "version": own.version}, {})
                return
            ok = status == 200
            self.reply(
                status, {"result": result, "status": "ok" if ok else {"error": result}, "time": 0.0}, {}
            )

        def do_GET(self) -> None:
            self.answer()

        def do_PUT(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def reply(self, status: int, content: Any, headers: dict[str, str]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _act(engine: QdrantClient, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    if path == "/":
        return 200, None
    name, rest = re.fullmatch(r"/collections/([^/]+)(.*)", path).groups()  # type: ignore[union-attr]
    if rest != "/exists" and (method, rest) != ("PUT", "") and not engine.collection_exists(name):
        return 404, f"Not found: Collection `{name}` doesn't exist!"
    try:
        return 200, _plain(_ANSWERS[method, rest](engine, name, body))
    except ValueError as error:
        return (409 if "already exists" in str(error) else 400), str(error)


def _create(engine: QdrantClient, name: str, body: dict[str, Any]) -> bool:
    wanted = models.CreateCollection(**body)
    return engine.create_collection(name, wanted.vectors, metadata=wanted.metadata)


def _upsert(engine: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    points = models.PointsList(**body).points
    for point in points:
        for vector in point.vector.values() if isinstance(point.vector, dict) else [point.vector]:
            if isinstance(vector[0], list) and sum(map(len, vector)) >= 1 << 20:
                raise ValueError("Total size of all vectors must be less than 1048576")
    return engine.upsert(name, points)


def _index(engine: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    wanted = models.CreateFieldIndex(**body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return engine.create_payload_index(name, wanted.field_name, wanted.field_schema)


def _query(engine: QdrantClient, name: str, body: dict[str, Any], groups: bool) -> Any:
    wanted = (models.QueryGroupsRequest if groups else models.QueryRequest)(**body)
    given = {
        "query": wanted.query,
        "using": wanted.using,
        "prefetch": wanted.prefetch,
        "query_filter": wanted.filter,
        "limit": wanted.limit,
    }
    if groups:
        return engine.query_points_groups(
            name, group_by=wanted.group_by, group_size=wanted.group_size, **given
        )
    return engine.query_points(name, **given)


def _retrieve(engine: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    wanted = models.PointRequest(**body)
    return engine.retrieve(name, wanted.ids, with_payload=wanted.with_payload or False)


def _scroll(engine: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    wanted = models.ScrollRequest(**body)
    points, following = engine.scroll(
        name, limit=wanted.limit or 10, offset=wanted.offset, with_payload=wanted.with_payload or False
    )
    return {"points": _plain(points), "next_page_offset": following}


def _delete(engine: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    return engine.delete(name, TypeAdapter(models.PointsSelector).validate_python(body))


_ANSWERS: dict[tuple[str, str], Callable[[QdrantClient, str, dict[str, Any]], Any]] = {
    ("GET", "/exists"): lambda engine, name, _: {"exists": engine.collection_exists(name)},
    ("GET", ""): lambda engine, name, _: engine.get_collection(name),
    ("PUT", ""): _create,
    ("PUT", "/index"): _index,
    ("PUT", "/points"): _upsert,
    ("POST", "/points"): _retrieve,
    ("POST", "/points/scroll"): _scroll,
    ("POST", "/points/count"): lambda engine, name, body: engine.count(
        name, models.CountRequest(**body).filter
    ),
    ("POST", "/points/delete"): _delete,
    ("POST", "/points/query"): lambda engine, name, body: _query(engine, name, body, groups=False),
    ("POST", "/points/query/groups"): lambda engine, name, body: _query(engine, name, body, groups=True),
}


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return [_plain(each) for each in result] if isinstance(result, list) else result
