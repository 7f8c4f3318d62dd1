"""A client that has closed its sending side gets its answer; one that has left altogether is found out."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from servers import PATIENCE, Running, wait_until

from latebolt.serve.http import half_closed

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


class Held:
    """A server whose answers at /v1/rerank wait until they may be given."""

    def __init__(self, running: Running, monkeypatch: pytest.MonkeyPatch, url: str = "") -> None:
        self.running, self.url = running, httpx.URL(url or running.url)
        self.may_go, self.began, self.left = threading.Event(), threading.Event(), threading.Event()
        service = running.server.service
        tokenize = service.tokenize

        async def wait_first(*arguments: object) -> object:
            self.began.set()
            try:
                await service.in_thread(service.writes, self._wait)
            finally:
                if not self.may_go.is_set():
                    self.left.set()
            return await tokenize(*arguments)

        monkeypatch.setattr(service, "tokenize", wait_first)

    def _wait(self) -> None:
        self.may_go.wait(PATIENCE)

    def ask(self, version: str = "1.1", more: bytes = b"", closes: bool = True) -> socket.socket:
        """A connection on which a rerank has begun; its sending side is closed unless told otherwise."""
        body = json.dumps({"query": "a", "documents": ["b", "c"]}).encode()
        head = (
            f"POST /v1/rerank HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.began.clear()
        connection = socket.create_connection((self.url.host, self.url.port), timeout=PATIENCE)
        connection.sendall(head.encode() + body + more)
        assert self.began.wait(PATIENCE)
        if closes:
            connection.shutdown(socket.SHUT_WR)
        return connection


@pytest.fixture
def held(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setattr(half_closed, "_LOOK_SECONDS", 0.02)
    each = Held(running, monkeypatch)
    yield each
    each.may_go.set()


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while more := connection.recv(1 << 16):
        found += more
    return found


def test_an_answer_that_is_there_at_once(running: Running):
    url = httpx.URL(running.url)
    with socket.create_connection((url.host, url.port), timeout=PATIENCE) as connection:
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b'{"status":"ok"}')


def test_an_answer_that_takes_long(held: Held):
    with held.ask() as connection:
        assert connection.recv(len(INTERIM)) == INTERIM
        held.may_go.set()
        said = read_all(connection)
    answer = said[said.rindex(b"HTTP/1.1 200 ") :]
    assert said.removesuffix(answer).replace(INTERIM, b"") == b""
    assert (
        b"connection: close" in answer and len(json.loads(answer.partition(b"\r\n\r\n")[2])["results"]) == 2
    )


def test_a_client_of_the_standard_library_passes_over_what_is_sent_between(held: Held):
    with held.ask() as connection:
        timer = threading.Timer(0.2, held.may_go.set)
        timer.start()
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        assert response.status == 200 and len(json.loads(response.read())["results"]) == 2
        assert connection.recv(1) == b""


def test_all_that_was_asked_is_answered(held: Held):
    with held.ask(more=GET + GET) as connection:
        threading.Timer(0.2, held.may_go.set).start()
        said = read_all(connection)
    assert said.count(b"HTTP/1.1 200 ") == 3 and said.endswith(b'{"status":"ok"}')
    assert INTERIM not in said  # it could stand within an answer


def test_a_client_of_http_1_0_is_sent_nothing_between(held: Held):
    with held.ask("1.0") as connection:
        threading.Timer(0.2, held.may_go.set).start()
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 200 ") and INTERIM not in said


def test_half_a_request_is_not_waited_for(running: Running):
    url = httpx.URL(running.url)
    for sent in (
        b"",
        GET[:-2],
        b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12",
    ):
        with socket.create_connection((url.host, url.port), timeout=PATIENCE) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_one_that_has_left_is_found_out(held: Held, monkeypatch: pytest.MonkeyPatch, version: str):
    monkeypatch.setattr(half_closed, "_OLD_SECONDS", 0.1)
    held.ask(version).close()
    wait_until(held.left.is_set)
