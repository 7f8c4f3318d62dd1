"""Connections: a head that does not come to its end is not waited for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import Running, serving

SECONDS = 0.5
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(Path(tmp_path_factory.mktemp("hasty")), body_timeout=SECONDS) as each:
        yield each


def connect(running: Running) -> socket.socket:
    url = httpx.URL(running.url)
    return socket.create_connection((url.host, url.port), timeout=10 * SECONDS)


def seconds_until_closed(client: socket.socket) -> float:
    """TimeoutError if it stays open."""
    start = time.monotonic()
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - start


def answered(client: socket.socket) -> bool:
    return b"200 OK" in client.recv(1 << 16)


@pytest.mark.parametrize("sent", [b"", GET[:9], GET[:-2], b"\r\n"])
def test_a_head_that_does_not_end_closes_the_connection(hasty: Running, sent: bytes):
    with connect(hasty) as client:
        client.sendall(sent)
        assert 0.5 * SECONDS < seconds_until_closed(client) < 4 * SECONDS


@pytest.mark.parametrize("sent", [GET[:9], b"\r\n", GET + GET[:9]])
def test_nor_is_a_later_head_waited_for(hasty: Running, sent: bytes):
    with connect(hasty) as client:
        client.sendall(GET)
        assert answered(client)
        client.sendall(sent)
        assert 0.5 * SECONDS < seconds_until_closed(client) < 4 * SECONDS


def test_a_head_in_drops_gets_no_more_time(hasty: Running):
    with connect(hasty) as client:
        end = time.monotonic() + 4 * SECONDS
        with pytest.raises(OSError):
            for i in range(10_000):
                client.sendall(b"GET /health HTTP/1.1\r\n" if i == 0 else b"a: b\r\n")
                assert time.monotonic() < end
                time.sleep(SECONDS / 10)


def test_a_head_has_an_end(hasty: Running):
    with connect(hasty) as client, pytest.raises(OSError):
        client.sendall(GET[:-2])
        end = time.monotonic() + 0.8 * SECONDS
        while time.monotonic() < end:
            client.sendall(b"a: " + b"b" * 10_000 + b"\r\n")
        pytest.fail("it went on listening")


def test_a_connection_that_rests_between_requests_stays(hasty: Running):
    with connect(hasty) as client:
        for _ in range(2):
            client.sendall(GET)
            assert answered(client)
            time.sleep(2 * SECONDS)
        client.sendall(GET + GET)
        time.sleep(SECONDS / 5)
        assert client.recv(1 << 16).count(b"200 OK") == 2
