"""`latebolt serve` as a process: signals, several workers, what survives a kill, what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from servers import process, wait_until, workers_of

from latebolt import Index

SLOW = {"query": "a", "documents": ["many words " * 120] * 100}


def documents(*names: str) -> dict[str, object]:
    return {"documents": [{"id": name, "text": f"text of {name}"} for name in names]}


def refused(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "latebolt", "serve", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr


def test_sigterm_finishes_what_runs_and_ends_with_zero(tmp_path: Path):
    with process(tmp_path) as (server, client), ThreadPoolExecutor(1) as other:
        client.post("/v1/indexes", json={"name": "a"})
        running = other.submit(httpx.post, f"{client.base_url}/v1/rerank", json=SLOW, timeout=60)
        job = client.post("/v1/indexes/a/documents?background=true", json=documents("one", "two")).json()
        wait_until(lambda: client.get("/metrics.json").json()["in_flight"] >= 1)
        server.send_signal(signal.SIGTERM)
        answer = running.result()
        assert (answer.status_code, len(answer.json()["results"])) == (200, 100)
        assert server.wait(20) == 0
    assert json.loads((tmp_path / "jobs" / f"{job['id']}.json").read_text())["state"] == "done"
    with Index.open(tmp_path / "indexes" / "a") as index:
        assert len(index) == 2


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path):
    acknowledged: list[str] = []
    with process(tmp_path) as (server, client):
        client.post("/v1/indexes", json={"name": "a"})

        def write(writer: int) -> None:
            with httpx.Client(base_url=client.base_url, timeout=30, verify=False) as own:
                for n in range(1000):
                    name = f"{writer}-{n}"
                    try:
                        if own.post("/v1/indexes/a/documents", json=documents(name)).status_code != 200:
                            return
                    except httpx.TransportError:
                        return
                    acknowledged.append(name)

        writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for writer in writers:
            writer.start()
        wait_until(lambda: len(acknowledged) > 20)
        many = documents(*(f"job-{n}" for n in range(600)))
        job = client.post("/v1/indexes/a/documents?background=true", json=many).json()
        server.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.join()
    with process(tmp_path) as (_, client):
        wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done", 120)
        names = [*acknowledged, *(f"job-{n}" for n in range(600))]
        for start in range(0, len(names), 1000):
            wanted = {"ids": names[start : start + 1000]}
            found = client.post("/v1/indexes/a/documents/get", json=wanted).json()["documents"]
            assert [each["id"] for each in found] == wanted["ids"]
        assert client.post("/v1/indexes/a/documents", json=documents("after")).status_code == 200


def test_several_processes_see_each_others_indexes_and_one_that_dies_is_replaced(tmp_path: Path):
    with process(tmp_path, "--workers", "2", LATEBOLT_SERVE_KEYS="a-secret-of-a-test") as (server, client):

        def fresh(method: str, path: str, body: object = None) -> httpx.Response:
            """A connection of its own, so that either process may get it."""
            return httpx.request(
                method,
                f"{client.base_url}{path}",
                json=body,
                headers={"Authorization": "Bearer a-secret-of-a-test"},
                timeout=30,
                verify=False,
            )

        wait_until(lambda: "latebolt_ready 2.0" in fresh("GET", "/metrics").text)
        assert fresh("POST", "/v1/indexes", {"name": "a", "dimensions": 64}).status_code == 201
        for n in range(8):
            assert fresh("POST", "/v1/indexes/a/documents", documents(f"d{n}")).status_code == 200
            found = fresh("POST", "/v1/indexes/a/search", {"query": "text", "k": 20}).json()["hits"]
            assert len(found) == n + 1
        assert fresh("DELETE", "/v1/indexes/a").status_code == 204
        assert fresh("POST", "/v1/indexes", {"name": "a"}).status_code == 201
        for _ in range(8):
            assert fresh("GET", "/v1/indexes/a").json()["dimensions"] == 128
            assert fresh("POST", "/v1/indexes/a/search", {"query": "text"}).json()["hits"] == []
        workers = workers_of(server)
        assert len(workers) == 2
        subprocess.run(["kill", "-9", str(min(workers))], check=True)
        wait_until(lambda: "latebolt_ready 2.0" in fresh("GET", "/metrics").text)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_a_data_folder_has_one_server(tmp_path: Path):
    with process(tmp_path):
        code, message = refused("--data", str(tmp_path), "--port", "0")
    assert code == 2
    assert "another server has this folder" in message


def test_a_key_of_an_earlier_version_is_told_by_its_line(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("# label: page\na-key-of-a-test-1 read\nletmein\n")
    code, message = refused("--data", str(tmp_path / "data"), "--port", "0", "--keys-file", str(keys))
    assert code == 2 and f"{keys}, line 3: the key has fewer than 16 characters" in message
    assert "letmein" not in message and "openssl rand" in message


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "there is no key"),
        (["--model", "/nowhere"], 1, "there is no such model folder"),
        (["--precision", "fp16"], 1, "has no fp16 graph"),
        (["--keys-file", "/nowhere"], 1, "cannot be read"),
        (["--workers", "0"], 2, "--workers should be at least 1"),
        (["--aliases", "jina-colbert-v2=multilingual"], 2, 'the model that is served is "starter"'),
        (["--log-level", "loud"], 2, "--log-level should be one of"),
        (["--trusted-proxies", "proxy.example"], 2, "--trusted-proxies should be addresses or networks"),
        (["--root-path", "search"], 2, "--root-path should be like /search"),
    ],
)
def test_what_is_refused_before_it_listens(tmp_path: Path, arguments: list[str], code: int, message: str):
    found, output = refused("--data", str(tmp_path), "--port", "0", *arguments)
    assert found == code
    assert message in output
    assert "Traceback" not in output


def test_beyond_this_machine_without_keys_when_told_so(tmp_path: Path):
    with process(tmp_path, "--host", "0.0.0.0", LATEBOLT_SERVE_WITHOUT_KEYS="true") as (server, client):
        assert client.get("/v1/models", headers={"Host": "any.example"}).status_code == 200
        server.send_signal(signal.SIGTERM)
        _, output = server.communicate(timeout=20)
    first = json.loads(output.splitlines()[0])
    assert first["event"] == "listening"
    assert first["keys"].startswith("none")
