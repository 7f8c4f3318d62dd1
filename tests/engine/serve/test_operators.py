"""Errors that operators can act on: full disks, used-up descriptors, read-only and vanished folders."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Running, process, serving, wait_until, workers_of

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.errors import IndexCorrupt, IndexInaccessible, IndexNotFound, OutOfMemory, StorageFull
from latebolt.index.format import files
from latebolt.serve.problems import Problem, problem_of
from latebolt.serve.state.data_folder import DataFolder, make_folders
from latebolt.serve.state.indexes import Indexes
from latebolt.serve.state.jobs import Jobs

DOCUMENTS = {"documents": [{"id": "a", "text": "some text"}]}
PATH = "/v1/indexes/cities"


def lines_of(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    records = [record for record in caplog.records if record.getMessage() == event]
    return [vars(record)["fields"] for record in records]


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, below: Path) -> None:
    """Let every opening of a file for writing below a folder fail."""
    real = os.open
    io_open = Path.open

    def path_open(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if below in self.parents and set(mode) & set("wxa+"):
            raise OSError(number, os.strerror(number), str(self))
        return io_open(self, mode, *rest, **more)

    def os_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if below in Path(os.fsdecode(path)).parents and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(Path, "open", path_open)
    monkeypatch.setattr(os, "open", os_open)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.EMFILE, "x"), 503, "out_of_descriptors"),
        (OSError(errno.ENFILE, "x"), 503, "out_of_descriptors"),
        (IndexInaccessible("x", errno.EMFILE, writing=True), 503, "out_of_descriptors"),
        (OSError(errno.ENOSPC, "x"), 503, "storage_full"),
        (OSError(errno.EDQUOT, "x"), 503, "storage_full"),
        (StorageFull("x"), 503, "storage_full"),
        (OutOfMemory("x"), 503, "out_of_memory"),
        (IndexInaccessible("x", errno.EROFS, writing=True), 409, "index_read_only"),
        (IndexInaccessible("x", errno.EACCES, writing=True), 409, "index_read_only"),
        (IndexInaccessible("x", errno.EACCES, writing=False), 500, "index_unreadable"),
        (IndexInaccessible("x", None, writing=False), 500, "index_unreadable"),
        (IndexInaccessible("x", errno.EIO, writing=True), 500, "storage_refused"),
        (OSError(errno.EROFS, "x"), 500, "storage_refused"),
        (PermissionError(errno.EACCES, "x"), 500, "storage_refused"),
        (OSError(errno.EIO, "x"), 500, "storage_refused"),
        (OSError("no number"), 500, "internal_error"),
        (ConnectionResetError(errno.ECONNRESET, "x"), 500, "internal_error"),
        (ZeroDivisionError(), 500, "internal_error"),
    ],
)
def test_what_the_system_refuses_has_codes_of_its_own(error: Exception, status: int, code: str):
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert ("error of ours" in problem.detail) == (code == "internal_error")
    assert (code == "out_of_descriptors") == ("Retry-After" in problem.headers)


@pytest.fixture
def given(tmp_path: Path, encoder: Encoder) -> Iterator[tuple[Running, Path]]:
    """A server with an index that lies elsewhere."""
    with Index.create(tmp_path / "mine", encoder) as index:
        index.add(["Berlin is in Germany."], ["b"])
    with serving(tmp_path / "data", index=(f"cities={tmp_path / 'mine'}",)) as running:
        yield running, tmp_path / "mine"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_index_is_searched_and_says_so_when_written_to(
    given: tuple[Running, Path],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    running, folder = given
    refuse(monkeypatch, number, folder)
    with caplog.at_level(logging.INFO, "latebolt"):
        for answer in (
            running.client.post(f"{PATH}/documents", json=DOCUMENTS),
            running.client.post(f"{PATH}/documents/delete", json={"ids": ["b"]}),
            running.client.patch(f"{PATH}/documents", json={"ids": ["b"], "set": {"a": 1}}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "index_read_only")
            assert "It can be searched" in answer.json()["detail"]
        assert running.client.post(f"{PATH}/search", json={"query": "Germany"}).json()["hits"]
        job = running.client.post(f"{PATH}/documents?background=true", json=DOCUMENTS).json()
        wait_until(lambda: running.client.get(f"/v1/jobs/{job['id']}").json()["ended"] is not None)
    ended = running.client.get(f"/v1/jobs/{job['id']}").json()
    assert ended["state"] == "failed" and "may not write to the folder of the index" in ended["detail"]
    told = lines_of(caplog, "error")
    assert {(line["index"], line["errno"], line["code"]) for line in told} == {
        ("cities", errno.errorcode[number], "index_read_only")
    }
    assert str(folder) not in caplog.text


def test_a_read_only_folder_in_truth(given: tuple[Running, Path]):
    running, folder = given
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("whoever runs the tests may write anywhere")
        refused = running.client.post(f"{PATH}/documents", json=DOCUMENTS)
        assert refused.json()["code"] == "index_read_only"
    finally:
        folder.chmod(0o700)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_has_no_room_for_the_record_of_a_job(
    running: Running, index: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "publish", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    refused = running.client.post(f"{index}/documents?background=true", json=DOCUMENTS)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_full")
    monkeypatch.undo()
    job = running.client.post(f"{index}/documents?background=true", json=DOCUMENTS).json()
    wait_until(lambda: running.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")


def vanish(folder: Path, how: str) -> None:
    if how == "moved":
        folder.rename(folder.with_name("moved"))
    elif how == "removed":
        shutil.rmtree(folder)
    elif how == "replaced":
        folder.rename(folder.with_name("moved"))
        (folder / "indexes").mkdir(parents=True)
    else:
        shutil.rmtree(folder / "indexes")


@pytest.mark.parametrize("how", ["moved", "removed", "replaced", "without indexes"])
def test_a_data_folder_that_vanishes_is_told_and_not_made_anew(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "data"
    with serving(folder) as running, caplog.at_level(logging.INFO, "latebolt"):
        client = running.client
        client.post("/v1/indexes", json={"name": "cities"})
        vanish(folder, how)
        before = sorted(tmp_path.rglob("*"))
        assert client.get("/health").status_code == 200
        for answer in (
            client.get("/ready"),
            client.post("/v1/indexes", json={"name": "more"}),
            client.post(f"{PATH}/documents", json=DOCUMENTS),
            client.post(f"{PATH}/documents?background=true", json=DOCUMENTS),
            client.post(f"{PATH}/search", json={"query": "a"}),
            client.get("/v1/indexes"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "data_missing")
        assert sorted(tmp_path.rglob("*")) == before
        assert client.get("/metrics").status_code == 200
        assert len(lines_of(caplog, "data folder missing")) == 1
        if how in ("moved", "replaced"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name("moved").rename(folder)
            assert client.get("/ready").status_code == 200
            assert client.post(f"{PATH}/documents", json=DOCUMENTS).status_code == 200
            assert len(lines_of(caplog, "data folder back")) == 1


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    "broken",
    [
        FileNotFoundError(errno.ENOENT, "x"),
        IndexNotFound("x"),
        IndexCorrupt("x", "size", 1, 0, "Restore it."),
        sqlite3.OperationalError("unable to open database file"),
        ValueError("x"),
    ],
)
def test_what_fails_because_the_data_folder_goes_is_told_so(tmp_path: Path, broken, back: bool, monkeypatch):
    """A request that has begun meets whatever is missing first; the folder may be back by its answer."""
    folder = tmp_path / "data"
    with serving(folder) as running:
        running.client.post("/v1/indexes", json={"name": "cities"})

        def goes(*_: object) -> None:
            vanish(folder, "moved")
            if back:
                folder.with_name("moved").rename(folder)
            raise broken

        monkeypatch.setattr(Indexes, "get", goes)
        answer = running.client.post(f"{PATH}/search", json={"query": "a"})
        assert (answer.status_code, answer.json()["code"]) == (503, "data_missing")
        assert ("Retry-After" in answer.headers) is back
        monkeypatch.undo()
        if back:  # and what fails later is a fault of its own

            def damaged(*_: object) -> None:
                raise IndexCorrupt("x", "size", 1, 0, "Restore it.")

            monkeypatch.setattr(Indexes, "get", damaged)
            assert (
                running.client.post(f"{PATH}/search", json={"query": "a"}).json()["code"] == "index_corrupt"
            )


def test_a_folder_that_is_made_again_is_not_taken_for_the_first(tmp_path: Path):
    """Though it may get the first one's number, where that is free again."""
    folder = tmp_path / "data"
    for _ in range(5):
        make_folders(folder, folder / "snapshots")
        data = DataFolder(folder)
        assert data.is_there
        shutil.rmtree(folder)
        make_folders(folder, folder / "snapshots")
        assert not data.is_there
        data.close()
        shutil.rmtree(folder)


def test_an_index_is_never_made_in_a_folder_that_has_just_gone(tmp_path: Path):
    with serving(tmp_path / "data") as running:
        indexes = running.server.service.indexes
        shutil.rmtree(tmp_path / "data")
        with pytest.raises(Exception, match="data folder of the server is gone"):
            indexes.create("late", 128, 2, None, None)
        assert not (tmp_path / "data").exists()


def test_a_worker_that_is_replaced_makes_no_data_folder_anew(tmp_path: Path):
    folder = tmp_path / "data"
    with process(folder, "--workers", "2") as (server, client):

        def ready() -> httpx.Response:
            return httpx.get(f"{client.base_url}/ready", timeout=30, verify=False)  # of either process

        wait_until(lambda: "latebolt_ready 2.0" in client.get("/metrics").text)
        folder.rename(tmp_path / "moved")
        assert ready().json()["code"] == "data_missing"
        for worker in workers_of(server):
            os.kill(worker, signal.SIGKILL)

        def is_told() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return ready().json()["code"] == "data_missing"
            return False

        wait_until(is_told)
        assert not folder.exists()
        (tmp_path / "moved").rename(folder)
        wait_until(lambda: answers(ready))
        server.terminate()
        assert server.wait(30) == 0


def answers(ask: Callable[[], httpx.Response]) -> bool:
    try:
        return ask().status_code == 200
    except httpx.TransportError:
        return False


def test_used_up_descriptors_are_told_in_answers_and_in_the_log(tmp_path: Path, encoder: Encoder):
    (tmp_path / "indexes").mkdir()
    for name in ("one", "two"):
        with Index.create(tmp_path / "indexes" / name, encoder) as index:
            index.add(["Berlin is in Germany."], ["b"])
    with process(tmp_path) as (server, client):
        request = {"query": "Germany", "k": 1}
        assert client.post("/v1/indexes/one/search", json=request).status_code == 200
        newest = max(int(each.name) for each in Path(f"/proc/{server.pid}/fd").iterdir())
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (newest + 1, hard))
        # Connections that are kept take what is left below.
        waiting = []
        with contextlib.suppress(OSError):
            for _ in range(newest):
                waiting.append(socket.create_connection((client.base_url.host, client.base_url.port)))
        shutil.copytree(tmp_path / "indexes" / "one", tmp_path / "indexes" / "three")
        refused = client.post("/v1/indexes/three/search", json=request)
        assert (refused.status_code, refused.json()["code"]) == (503, "out_of_descriptors")
        assert refused.headers["retry-after"] == "5"
        wait_until(lambda: out_of_descriptors(client) > 0)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for each in waiting:
            each.close()
        assert client.post("/v1/indexes/three/search", json=request).status_code == 200
        server.terminate()
        _, output = server.communicate(timeout=20)
    lines = [json.loads(line) for line in output.splitlines()]
    [error, *_] = [line for line in lines if line["event"] == "error"]
    assert (error["index"], error["errno"], error["code"]) == ("three", "EMFILE", "out_of_descriptors")
    [told, *_] = [line for line in lines if line["event"] == "no descriptor for connections"]
    assert told["errno"] == "EMFILE" and "LimitNOFILE" in told["way_out"]


def out_of_descriptors(client: httpx.Client) -> float:
    name = "latebolt_out_of_descriptors_seconds_total "
    [line] = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


def test_a_full_disk_in_a_job_is_told_as_such(
    running: Running, index: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    real = os.fsync

    def full_in_the_index(handle: int) -> None:
        place = str(Path(f"/proc/self/fd/{handle}").readlink())
        full() if "/indexes/" in place else real(handle)

    monkeypatch.setattr(os, "fsync", full_in_the_index)
    with caplog.at_level(logging.INFO, "latebolt"):
        job = running.client.post(f"{index}/documents?background=true", json=DOCUMENTS).json()
        path = f"/v1/jobs/{job['id']}"
        wait_until(lambda: running.client.get(path).json()["ended"] is not None)
        now = running.client.post(f"{index}/documents", json=DOCUMENTS)
    assert (now.status_code, now.json()["code"]) == (503, "storage_full")
    ended = running.client.get(path).json()
    assert (ended["state"], ended["code"]) == ("failed", "storage_full")
    assert "disk is full" in ended["detail"]
    [line] = lines_of(caplog, "job failed")
    assert (line["index"], line["errno"], line["code"]) == ("cities", "ENOSPC", "storage_full")
    [line] = lines_of(caplog, "error")
    assert (line["index"], line["errno"], line["code"]) == ("cities", "ENOSPC", "storage_full")


def test_a_folder_of_jobs_that_is_gone(tmp_path: Path):
    with serving(tmp_path) as running:
        client = running.client
        client.post("/v1/indexes", json={"name": "cities"})
        shutil.rmtree(tmp_path / "jobs")
        for answer in (
            client.post(f"{PATH}/documents?background=true", json=DOCUMENTS),
            client.get("/v1/jobs"),
            client.get(f"/v1/jobs/{'a' * 32}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "jobs_missing")
        assert not (tmp_path / "jobs").exists()
        assert client.post(f"{PATH}/documents", json=DOCUMENTS).status_code == 200
        (tmp_path / "jobs").mkdir()
        job = client.post(f"{PATH}/documents?background=true", json=DOCUMENTS).json()
        wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")


def test_half_written_records_of_jobs_are_cleared_away_at_the_start(tmp_path: Path):
    (tmp_path / "jobs").mkdir()
    left = tmp_path / "jobs" / f"{'a' * 32}.draft"
    left.write_bytes(b'{"id":')
    with process(tmp_path) as (_, client):
        assert client.get("/v1/jobs").json()["data"] == []
    assert not left.exists()


def test_claiming_jobs_makes_no_folder_anew(tmp_path: Path, encoder: Encoder):
    """Which the library of the lock would do, for a folder that goes just then."""
    jobs = Jobs(tmp_path / "data" / "jobs", Indexes(tmp_path / "data" / "indexes", lambda dim: encoder))
    with pytest.raises(Problem, match="folder of jobs is gone"), jobs._claimed("cities"):
        pass
    assert not (tmp_path / "data").exists()


def test_a_search_from_the_shell_finds_the_one_index_that_can_be_used(
    tmp_path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("httpx2")
    with Index.create(tmp_path / "indexes" / "good", encoder) as index:
        index.add(["Berlin is in Germany."], ["b"])
    (tmp_path / "indexes" / "foreign").mkdir()
    with serving(tmp_path) as running:
        assert run(["search", "--url", running.url, "Germany", "--json"]) == 0
    assert [hit["id"] for hit in json.loads(capsys.readouterr().out)] == ["b"]
