"""Keys, deadlines, full queues, clients that are slow or leave, and what logs and figures say of it."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from servers import Running, serving, wait_until

from latebolt.serve import log, metrics

SLOW = {"query": "a", "documents": ["many words " * 120] * 250}  # seconds of work
SECONDS = {"query": "a", "documents": ["many words " * 120] * 60}  # less of it, where all is waited for
QUICK = {"query": "a", "documents": ["b"]}
READER, WRITER, OTHER = "a-reader-of-a-test", "a-writer-of-a-test", "a-newer-key-of-a-test"


def authorised(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys(tmp_path: Path):
    file = tmp_path / "keys.txt"
    file.write_text(f"{READER} read\n{WRITER} write\n")
    with serving(tmp_path / "data", keys_file=str(file)) as running:
        client = running.client
        for path in ("/health", "/ready", "/", "/openapi.json"):
            assert client.get(path).status_code == 200
        refused = client.post("/v1/rerank", json=QUICK)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        wrong = client.post("/v1/rerank", json=QUICK, headers=authorised("nobody"))
        assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_key")
        assert "needed" in refused.json()["detail"]
        assert "needed" not in wrong.json()["detail"]
        assert client.get("/metrics").status_code == 401
        assert client.get("/v1/nothing").status_code == 401
        assert client.post("/v1/rerank", json=QUICK, headers=authorised(READER)).status_code == 200
        made = client.post("/v1/indexes", json={"name": "a"}, headers=authorised(READER))
        assert (made.status_code, made.json()["code"]) == (403, "forbidden")
        assert client.post("/v1/indexes", json={"name": "a"}, headers=authorised(WRITER)).status_code == 201
        assert client.delete("/v1/indexes/a", headers=authorised(READER)).status_code == 403
        file.write_text(f"{OTHER} write\n")
        assert client.get("/v1/models", headers=authorised(READER)).status_code == 401
        assert client.get("/v1/models", headers=authorised(OTHER)).status_code == 200
        described = client.get("/openapi.json").json()
        assert described["paths"]["/v1/rerank"]["post"]["security"] == [{"key": []}]
        assert "security" not in described["paths"]["/health"]["get"]


def test_without_keys_only_names_of_this_machine_are_answered(client: httpx.Client):
    response = client.get("/v1/models", headers={"Host": "rebound.example"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert client.get("/v1/models", headers={"Host": "localhost:1234"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "[::1]:1234"}).status_code == 200


def test_head_is_answered_as_get_without_the_body(client: httpx.Client):
    for path in ("/health", "/ready", "/v1/models", "/"):
        asked, full = client.head(path), client.get(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == full.headers["content-length"] == str(len(full.content))
    refused = client.head("/v1/rerank")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
    assert client.post("/health").headers["allow"] == "GET, HEAD"


def test_request_ids(client: httpx.Client):
    assert client.get("/health", headers={"X-Request-ID": "a.b-c_1"}).headers["x-request-id"] == "a.b-c_1"
    made = [
        client.get("/health", headers={"X-Request-ID": "no spaces"}).headers["x-request-id"] for _ in "ab"
    ]
    assert len(set(made)) == 2
    assert all(len(each) == 32 for each in made)


def test_a_full_server_says_when_to_come_again_and_is_healthy(tmp_path: Path):
    with (
        serving(tmp_path, queue_requests=2, cache_mb=0, timeout=200) as running,
        ThreadPoolExecutor(2) as others,
    ):
        slow = [
            others.submit(httpx.post, f"{running.url}/v1/rerank", json=SECONDS, timeout=200) for _ in "ab"
        ]
        wait_until(lambda: running.client.get("/metrics.json").json()["in_flight"] == 2)
        refused = running.client.post("/v1/rerank", json=QUICK)
        assert refused.json()["code"] == "overloaded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert running.client.get("/health").status_code == 200
        assert [each.result().status_code for each in slow] == [200, 200]
        assert running.client.post("/v1/rerank", json=QUICK).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(tmp_path: Path):
    with serving(tmp_path, timeout=0.3, cache_mb=0) as running:
        start = time.perf_counter()
        response = running.client.post("/v1/rerank", json=SLOW)
        assert (response.status_code, response.json()["code"]) == (504, "timeout")
        assert time.perf_counter() - start < 3
        wait_until(lambda: running.server.service.batcher.seconds_waiting == 0, 2)
        assert running.client.post("/v1/rerank", json=QUICK).status_code == 200


def raw_request(running: Running, body: bytes, length: int | None = None) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = (
        f"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def test_work_of_a_client_that_leaves_is_dropped(tmp_path: Path):
    with serving(tmp_path, cache_mb=0) as running:
        before = metrics.DISCONNECTED._value.get()
        batcher = running.server.service.batcher
        connection = raw_request(running, json.dumps(SLOW).encode())
        wait_until(lambda: batcher.seconds_waiting > 0.3)
        connection.close()
        wait_until(lambda: batcher.seconds_waiting == 0, 2)
        wait_until(lambda: metrics.DISCONNECTED._value.get() == before + 1, 2)


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path):
    with serving(tmp_path, body_timeout=0.3) as running:
        with raw_request(running, b'{"query":', length=500) as connection:
            answer = connection.recv(10_000)
            assert b" 408 " in answer.split(b"\r\n")[0]
            assert b"body_timeout" in answer
        with raw_request(running, b'{"query":', length=500):
            pass  # left in the middle of it
        assert running.client.post("/v1/rerank", json=QUICK).status_code == 200


def test_many_clients_at_once_get_their_own_answers(running: Running):
    def ask(n: int) -> int:
        documents = [f"document {i} about {'cats' if i == n % 7 else 'tax law'}" for i in range(7)]
        answer = httpx.post(
            f"{running.url}/v1/rerank", json={"query": "cats", "documents": documents, "top_n": 1}, timeout=60
        )
        return int(answer.json()["results"][0]["index"])

    with ThreadPoolExecutor(24) as clients:
        assert list(clients.map(ask, range(96))) == [n % 7 for n in range(96)]


def test_pages_of_other_origins_are_let_in_only_when_told(running: Running, tmp_path: Path):
    asking = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in running.client.options("/v1/rerank", headers=asking).headers
    with serving(tmp_path, keys=WRITER, cors="https://a.example") as open_:
        allowed = open_.client.options("/v1/rerank", headers=asking)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        refused = open_.client.post("/v1/rerank", json=QUICK, headers={"Origin": "https://a.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://a.example"
        other = open_.client.options("/v1/rerank", headers={**asking, "Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_figures(client: httpx.Client):
    client.post("/v1/rerank", json=QUICK)
    client.post("/v1/rerank", json={})
    figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    for line in (
        'latebolt_requests_total{route="/v1/rerank",status="200"}',
        'latebolt_errors_total{code="validation_error"}',
        'latebolt_stage_seconds_count{stage="encode"}',
        'latebolt_queue_tokens{lane="document"}',
        "latebolt_batch_tokens_bucket",
        "latebolt_cache_hits_total",
        "latebolt_ready 1.0",
    ):
        assert line in figures.text


def test_nothing_unexpected_shows_more_than_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with serving(tmp_path) as running:
        secret = f"{tmp_path} zanzibar"

        def fail(*_: object) -> None:
            raise RuntimeError(secret)

        monkeypatch.setattr(running.server.service, "check_model", fail)
        with caplog.at_level(logging.INFO, "latebolt.serve"):
            response = running.client.post(
                "/v1/rerank", json={"query": "zanzibar", "documents": ["zanzibar"]}
            )
        assert response.status_code == 500
        assert response.json().keys() == {"detail", "code", "request_id"}
        assert "zanzibar" not in response.text
        wait_until(lambda: any(record.getMessage() == "error" for record in caplog.records))
        lines = [log._JsonLines().format(record) for record in caplog.records]
        assert not any("zanzibar" in line or str(tmp_path) in line for line in lines)
        [error] = [json.loads(line) for line in lines if '"event":"error"' in line]
        assert error["request_id"] == response.json()["request_id"]
        assert (error["error"], error["at"].split(":")[0]) == (
            "RuntimeError",
            "latebolt.serve.http.routes_jina",
        )


def test_a_server_leaves_no_threads_behind(tmp_path: Path):
    def ours() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("latebolt-")}

    before = ours()
    with serving(tmp_path) as running:
        running.client.post("/v1/rerank", json=QUICK)
    wait_until(lambda: ours() <= before, 5)


def test_a_server_whose_engine_is_broken_is_not_ready(running: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running.server.service.batcher, "is_whole", False)
    for response in (running.client.get("/ready"), running.client.post("/v1/rerank", json=QUICK)):
        assert (response.status_code, response.json()["code"]) == (503, "broken")
    assert running.client.get("/health").status_code == 200


def test_a_line_of_the_log_carries_nothing_that_a_terminal_obeys():
    text = "".join(
        map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x2028, 0x2029, 0x202E, 0x2066, 0xFEFF])
    )
    record = logging.LogRecord("a", logging.INFO, "", 0, f"event {text}", None, None)
    record.fields = {"code": text}
    line = log._JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["code"] == text
    assert json.loads(line)["event"] == f"event {text}"


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Content-Encoding"])
def test_a_header_that_decides_something_comes_once(client: httpx.Client, name: str):
    headers = [("Host", "localhost"), ("X-More", "1"), ("X-More", "2")]
    assert client.get("/v1/models", headers=headers).status_code == 200
    twice = [*(each for each in headers if each[0] != name), (name, "localhost"), (name, "identity")]
    refused = client.get("/v1/models", headers=twice)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")


def test_two_hosts_are_refused(running: Running):
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n")
        assert b" 400 " in connection.recv(10_000).split(b"\r\n")[0]


def test_what_needs_no_key_takes_no_large_body(tmp_path: Path):
    with serving(tmp_path, keys=WRITER) as running:
        for path in ("/health", "/", "/nothing"):
            refused = running.client.post(path, content=b" " * 100_000)
            assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert running.client.post("/v1/rerank", content=b" " * 100_000).status_code == 401
        assert running.server.service.budget.held == 0
