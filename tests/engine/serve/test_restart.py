"""Restarts under load: nobody's request is refused, whichever way the server is replaced.

What is counted are answers other than 200, and connections that were refused or lost.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import PATIENCE, process, wait_until, workers_of

import latebolt
from latebolt.errors import InvalidInput
from latebolt.serve import process as process_module
from latebolt.serve.keys import Keys
from latebolt.serve.listening import given_socket
from latebolt.serve.ownership import Ownership
from latebolt.serve.process import make_server
from latebolt.serve.settings import Settings
from latebolt.serve.state.data_folder import make_folders
from latebolt.serve.state.service import Service

RERANK: dict[str, Any] = {"query": "capital of Germany", "documents": ["Berlin", "Paris", "Rome"]}
LONG = 120.0


class Load:
    """Clients that ask again and again, some on a connection that they keep, some on a new one each time.

    Args:
        place: where the next request goes.
        writers: how many of them add a document each time.
    """

    def __init__(self, place: Callable[[], str], kept: int = 3, fresh: int = 2, writers: int = 1) -> None:
        self._place = place
        self._ended = threading.Event()
        kinds = [(True, n < writers) for n in range(kept)] + [(False, False)] * fresh
        self.answered = [0] * len(kinds)
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(n, *kind)) for n, kind in enumerate(kinds)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def refused(self) -> list[Any]:
        return [status for status in self.statuses if status != 200] + self.lost

    def go_on(self) -> None:
        """Until everybody has been answered three times more, the first of which may have been under way."""
        before = list(self.answered)
        wait_until(lambda: all(now - then > 2 for now, then in zip(self.answered, before, strict=True)), LONG)

    def _ask(self, n: int, keeps: bool, writes: bool) -> None:
        with httpx.Client(timeout=LONG, verify=False) as kept:
            while not self._ended.is_set():
                place = self._place().rstrip("/")
                client = kept if keeps else httpx.Client(timeout=LONG, verify=False)
                search = {"query": "text", "k": 3}
                asked = [("/v1/rerank", RERANK), ("/v1/indexes/a/search", search)]
                if writes:
                    asked = [("/v1/indexes/a/documents", added(f"{n}"))]
                try:
                    for path, body in asked:
                        self.statuses.append(client.post(f"{place}{path}", json=body).status_code)
                except httpx.TransportError as error:
                    self.lost.append(type(error).__name__)
                if client is not kept:
                    client.close()
                self.answered[n] += 1
                self._ended.wait(0.03)  # what is asked in between tells nothing more


def added(name: str) -> dict[str, Any]:
    return {"documents": [{"id": name, "text": f"text of {name}"}]}


def url(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def fresh(client: httpx.Client, path: str) -> httpx.Response:
    """By a connection of its own."""
    return httpx.get(f"{url(client).rstrip('/')}{path}", timeout=PATIENCE, verify=False)


def workers_ready(client: httpx.Client) -> bool:
    return "latebolt_ready 2.0" in fresh(client, "/metrics").text


@contextlib.contextmanager
def two_workers(data: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    with process(data, "--workers", "2", *arguments) as (server, client):
        wait_until(lambda: workers_ready(client), LONG)
        client.post("/v1/indexes", json={"name": "a"})
        client.close()  # one that rests would be waited for
        yield server, client


def test_workers_are_replaced_one_by_one_and_no_request_is_refused(tmp_path: Path):
    with two_workers(tmp_path) as (server, client):
        before = workers_of(server)
        with Load(lambda: url(client)) as load:
            server.send_signal(signal.SIGUSR2)
            wait_until(lambda: len(workers_of(server)) == 2 and not workers_of(server) & before, LONG)
            load.go_on()
        assert load.refused == []
        assert workers_ready(client)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_a_worker_that_is_killed_costs_the_requests_it_held_and_no_other(tmp_path: Path):
    with two_workers(tmp_path) as (server, client):
        before = workers_of(server)
        with Load(lambda: url(client)) as load:
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda: len(workers_of(server) - before) == 1, LONG)
            wait_until(lambda: workers_ready(client), LONG)
            load.go_on()
        assert {status for status in load.statuses if status != 200} == set()
        assert len(load.lost) <= len(load.answered)  # one each is under way


def test_workers_stay_when_those_that_should_replace_them_cannot_load(tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(Path(latebolt.__file__).parent / "models" / "starter", model)
    with two_workers(tmp_path / "data", "--model", str(model)) as (server, client):
        before = workers_of(server)
        shutil.move(model, tmp_path / "away")
        with Load(lambda: url(client)) as load:
            server.send_signal(signal.SIGUSR2)
            lines: list[str] = []
            assert server.stderr is not None
            for line in server.stderr:
                lines.append(json.loads(line)["event"])
                if lines[-1] == "renewal failed":
                    break
            assert workers_of(server) >= before
        assert load.refused == []


def test_one_process_says_that_it_cannot_be_renewed(tmp_path: Path):
    with process(tmp_path) as (server, client):
        server.send_signal(signal.SIGUSR2)
        assert server.stderr is not None
        assert any('"event":"no renewal"' in line for line in server.stderr)  # ends with it
        assert client.get("/ready").status_code == 200


def test_a_server_beside_another_searches_and_writes_when_that_has_left(tmp_path: Path):
    with process(tmp_path) as (first, one), contextlib.ExitStack() as stack:
        one.post("/v1/indexes", json={"name": "a"})
        places = [url(one)]
        load = stack.enter_context(Load(lambda: places[-1], writers=0))
        second, two = stack.enter_context(process(tmp_path, "--overlap", "--timeout", "600"))
        assert one.post("/v1/indexes/a/documents", json=added("x")).status_code == 200
        found = two.post("/v1/indexes/a/search", json={"query": "text"}).json()["hits"]
        assert [hit["id"] for hit in found] == ["x"]
        writing = stack.enter_context(ThreadPoolExecutor(2))
        write = writing.submit(
            httpx.post, f"{url(two)}/v1/indexes/a/documents", json=added("y"), timeout=LONG
        )
        job = writing.submit(
            httpx.post, f"{url(two)}/v1/indexes/a/documents?background=true", json=added("z"), timeout=LONG
        )
        load.go_on()
        assert not write.done() and not job.done()
        assert one.get("/v1/jobs").json()["data"] == []
        places.append(url(two))
        load.go_on()  # nobody asks the first any more
        one.close()
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        assert (write.result(LONG).status_code, job.result(LONG).status_code) == (200, 202)
        load.go_on()
        path = f"/v1/jobs/{job.result().json()['id']}"
        wait_until(lambda: two.get(path).json()["state"] == "done")
        assert two.get("/v1/indexes/a").json()["documents"] == 3
        assert load.refused == []
        assert second.poll() is None


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_write_that_cannot_wait_is_told_why(tmp_path: Path, workers: str):
    with (
        process(tmp_path, "--workers", workers) as (first, one),
        process(tmp_path, "--overlap", "--workers", workers, "--timeout", "1") as (_, two),
    ):
        assert one.post("/v1/indexes", json={"name": "a"}).status_code == 201
        refused = two.post("/v1/indexes/a/documents", json=added("x"))
        assert (refused.status_code, refused.json()["code"]) == (503, "standing_by")
        assert refused.headers["retry-after"] == "5"
        one.close()
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        wait_until(lambda: two.post("/v1/indexes/a/documents", json=added("x")).status_code == 200)


def test_leftovers_that_cannot_be_cleared_away_keep_nobody_from_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(_: Settings) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(process_module, "_tidy", refuse)
    settings = Settings(data=str(tmp_path))
    with Ownership(tmp_path) as second, caplog.at_level(logging.INFO, "latebolt"):
        with Ownership(tmp_path) as first:
            assert first.take()
            assert process_module._follows(second, settings) is False and not caplog.records
        assert process_module._follows(second, settings) is True
        assert [record.getMessage() for record in caplog.records] == ["leftovers stay"]
        with pytest.raises(OSError, match="no space"), Ownership(tmp_path / "other") as third:
            process_module._takes_over(third, settings)  # at its start a server says so and ends


def test_a_folder_that_has_gone_is_not_made_anew_by_who_waits_for_it(tmp_path: Path):
    folder = tmp_path / "data"
    with Ownership(folder) as waiting:
        folder.rmdir()
        assert waiting.take() is False and not folder.exists()
        folder.mkdir()
        assert waiting.take() is True


# A socket that outlives the server


HANDED_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def activated(data: Path, listener: socket.socket, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server that is started as systemd starts one for a socket."""
    command = [sys.executable, "-m", "latebolt", "serve", "--data", str(data), *arguments]
    running = subprocess.Popen(
        [sys.executable, "-c", HANDED_OVER, str(listener.fileno()), *command],
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_socket_that_stays_open_loses_nothing_between_two_servers(tmp_path: Path, workers: str):
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        place = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(activated(tmp_path, listener, "--workers", workers))
            made = httpx.post(f"{place}/v1/indexes", json={"name": "a"}, timeout=LONG)  # waits, and is no 503
            assert made.status_code == 201
            with Load(lambda: place) as load:
                first.send_signal(signal.SIGTERM)
                assert first.wait(60) == 0
                stack.enter_context(activated(tmp_path, listener, "--workers", workers))
                load.go_on()
            assert load.refused == []


def test_a_socket_that_is_for_somebody_else_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert given_socket() is None
    assert "LISTEN_FDS" not in os.environ  # nor by a program that this one starts


@pytest.mark.parametrize(
    ("kind", "message"),
    [("file", "is no socket"), ("deaf", "one of TCP that listens"), ("unix", "one of TCP that listens")],
)
def test_what_is_no_socket_to_listen_at_is_refused(tmp_path: Path, kind: str, message: str):
    with contextlib.ExitStack() as stack:
        given: Any = stack.enter_context((tmp_path / "file").open("w"))
        if kind == "deaf":
            given = stack.enter_context(socket.socket())
        if kind == "unix":
            given = stack.enter_context(socket.socket(socket.AF_UNIX))
            given.bind(str(tmp_path / "socket"))
            given.listen()
        server = stack.enter_context(activated(tmp_path / "data", given))
        _, output = server.communicate(timeout=60)
    assert server.returncode == 2 and message in output and "Traceback" not in output


def test_more_than_one_socket_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    with pytest.raises(InvalidInput, match="LISTEN_FDS should be 1, one socket to listen at, got '2'"):
        given_socket()


def test_a_socket_that_others_reach_needs_a_key(tmp_path: Path):
    with socket.create_server(("0.0.0.0", 0)) as listener, activated(tmp_path, listener) as server:
        _, output = server.communicate(timeout=60)
    assert server.returncode == 2 and "there is no key" in output


# In this process


@contextlib.contextmanager
def in_thread(data: Path) -> Iterator[tuple[Any, str, threading.Thread]]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        settings = Settings(data=str(data), threads=2, shutdown=120.0)
        make_folders(settings.data_folder, settings.snapshots_folder)
        server = make_server(settings, Keys("", None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{listener.getsockname()[1]}", thread
        finally:
            server.should_exit = True
            thread.join()


def test_nobody_is_answered_before_the_model_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go_on, load = threading.Event(), Service._load

    def held(self: Service) -> None:
        assert go_on.wait(60)
        load(self)

    monkeypatch.setattr(Service, "_load", held)
    with in_thread(tmp_path) as (server, place, _), ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(httpx.get, f"{place}/ready", timeout=LONG),
            pool.submit(httpx.post, f"{place}/v1/rerank", json=RERANK, timeout=LONG),
        ]
        wait_until(lambda: server.service.state == "loading")
        assert not server.started and not any(each.done() for each in asked)
        go_on.set()
        assert [each.result().status_code for each in asked] == [200, 200]


def test_a_server_that_is_told_to_stop_while_it_loads_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()
    monkeypatch.setattr(Service, "_load", lambda self: go_on.wait(60))
    with in_thread(tmp_path) as (server, _, thread):
        wait_until(lambda: server.service.state == "loading")
        server.leave()
        thread.join(30)
        assert not thread.is_alive()
        go_on.set()


def test_who_is_connected_is_answered_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with in_thread(tmp_path) as (server, place, thread), httpx.Client(base_url=place, timeout=LONG) as client:
        wait_until(lambda: server.started)
        assert client.get("/ready").status_code == 200
        with httpx.Client(base_url=place, timeout=LONG) as other:
            assert other.get("/health").status_code == 200
            server.leave(LONG)

            def refuses() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"{place}/health", timeout=1, verify=False)
                    return False
                return True

            wait_until(refuses)
            not_ready = other.get("/ready")  # a load balancer sends nothing more
            assert (not_ready.status_code, not_ready.json()["code"]) == (503, "stopping")
        answer = client.post("/v1/rerank", json=RERANK)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        thread.join(30)  # nobody is connected any more
        assert not thread.is_alive()


def test_a_person_at_the_keyboard_does_not_wait_for_connections_that_rest(tmp_path: Path):
    with in_thread(tmp_path) as (server, place, thread), httpx.Client(base_url=place, timeout=LONG) as client:
        wait_until(lambda: server.started)
        assert client.get("/ready").status_code == 200
        server._linger = 1e9
        server.handle_exit(signal.SIGINT, None)
        thread.join(30)
        assert not thread.is_alive()
    assert process_module._LINGER_SECONDS < process_module._LEISURE_SECONDS
