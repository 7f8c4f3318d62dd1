"""Additions in the background: others write beside them, they end when told to, and go on after a restart."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Running, process, serving, wait_until

from latebolt import Encoder
from latebolt.errors import IndexNotFound
from latebolt.index.documents.checked import check_documents
from latebolt.index.ingest import long_addition
from latebolt.index.ingest.long_addition import LongAddition
from latebolt.serve.problems import Problem, data_was_missing, problem_of
from latebolt.serve.state.data_folder import DataFolder, make_folders
from latebolt.serve.state.indexes import Indexes
from latebolt.serve.state.jobs import Jobs

N = 25


def documents(n: int = N, name: str = "d") -> dict[str, Any]:
    return {"documents": [{"id": f"{name}{i}", "text": f"text number {i} of {name}"} for i in range(n)]}


class Gate:
    """Holds jobs where their first ten documents are committed and the next are to be encoded."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, encode = Gate(), LongAddition.encode

    def held(self: LongAddition, wanted: Callable[[], None] = lambda: None) -> bool:
        if self.progress.documents == 10:
            gate.reached.set()
            while not gate.opened.wait(0.01):
                wanted()
        return encode(self, wanted)

    monkeypatch.setattr(long_addition, "COMMIT_DOCUMENTS", 10)
    monkeypatch.setattr(LongAddition, "encode", held)
    yield gate
    gate.opened.set()


@pytest.fixture
def path(client: httpx.Client) -> Iterator[str]:
    client.post("/v1/indexes", json={"name": "many"})
    yield "/v1/indexes/many"
    client.delete("/v1/indexes/many")


def begin(client: httpx.Client, path: str, body: dict[str, Any] | None = None) -> str:
    answer = client.post(f"{path}/documents?background=true", json=body or documents())
    assert answer.status_code == 202
    return f"/v1/jobs/{answer.json()['id']}"


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    wait_until(lambda: client.get(job).json()["ended"] is not None)
    found: dict[str, Any] = client.get(job).json()
    return found


def told(job: dict[str, Any]) -> tuple[Any, ...]:
    return job["state"], job["detail"], job["committed"]


def count(client: httpx.Client, path: str) -> int:
    return int(client.get(path).json()["documents"])


def test_others_write_while_a_job_encodes(client: httpx.Client, path: str, gate: Gate):
    job = begin(client, path)
    assert gate.reached.wait(30)
    assert told(client.get(job).json()) == ("running", None, 10)
    assert count(client, path) == 10
    assert client.post(f"{path}/documents", json=documents(1, "other")).status_code == 200
    removed = client.post(f"{path}/documents/delete", json={"ids": ["d3", "d20"]})
    assert removed.json()["deleted"] == 1  # d20 is not there yet
    changed = client.patch(f"{path}/documents", json={"ids": ["d4"], "set": {"a": 1}})
    assert changed.json()["updated"] == 1
    gate.opened.set()
    assert told(ended(client, job)) == ("done", None, N)
    assert count(client, path) == N


def test_deleting_an_index_ends_its_jobs(client: httpx.Client, path: str, gate: Gate):
    jobs = [begin(client, path), begin(client, path, documents(3, "later"))]
    client.post("/v1/indexes", json={"name": "other"})
    elsewhere = begin(client, "/v1/indexes/other", documents(3))
    assert gate.reached.wait(30)
    assert client.delete(path).status_code == 204
    client.post("/v1/indexes", json={"name": "many"})
    assert told(ended(client, jobs[0])) == ("cancelled", "its index was deleted.", 10)
    assert told(ended(client, jobs[1])) == ("cancelled", "its index was deleted.", 0)
    gate.opened.set()
    assert ended(client, elsewhere)["state"] == "done"
    assert count(client, path) == 0  # one of the same name gets nothing of them
    client.delete("/v1/indexes/other")


def test_an_index_that_stays_keeps_its_jobs(running: Running, client: httpx.Client, path: str, gate: Gate):
    job = begin(client, path)
    assert gate.reached.wait(30)
    running.server.service.indexes._given["many"] = (
        running.server.service.settings.data_folder / "indexes/many"
    )
    try:
        assert client.delete(path).json()["code"] == "index_given"
    finally:
        running.server.service.indexes._given.clear()
    assert client.delete("/v1/indexes/nowhere").status_code == 404
    gate.opened.set()
    assert ended(client, job)["state"] == "done"


def test_a_job_is_cancelled(client: httpx.Client, path: str, gate: Gate):
    running, queued = begin(client, path), begin(client, path, documents(3, "later"))
    assert gate.reached.wait(30)
    for _ in range(2):  # the second time it has ended
        for job, committed in ((queued, 0), (running, 10)):
            answer = client.delete(job)
            assert answer.status_code == 200
            assert told(answer.json()) == ("cancelled", "it was cancelled by a request.", committed)
            assert answer.json()["ended"] is not None
    gate.opened.set()
    third = begin(client, path, documents(2, "third"))
    assert told(ended(client, third)) == ("done", None, 2)
    assert count(client, path) == 12
    assert client.delete(third).json()["state"] == "done"  # stays as it ended
    assert told(client.get(queued).json()) == ("cancelled", "it was cancelled by a request.", 0)
    listed = {job["id"]: job["state"] for job in client.get("/v1/jobs").json()["data"]}
    assert [listed[job.rpartition("/")[2]] for job in (running, queued, third)] == ["cancelled"] * 2 + [
        "done"
    ]
    for none in ("0" * 32, "none", "x.y"):
        assert client.delete(f"/v1/jobs/{none}").json()["code"] == "job_not_found"


def test_nothing_is_left_of_a_job_that_has_ended(tmp_path: Path, gate: Gate):
    with serving(tmp_path) as running:
        client = running.client
        client.post("/v1/indexes", json={"name": "many"})
        job = begin(client, "/v1/indexes/many")
        assert gate.reached.wait(30)
        client.delete(job)
        gate.opened.set()
        ended(client, begin(client, "/v1/indexes/many"))
        wait_until(
            lambda: not [*(tmp_path / "jobs").glob("*.documents"), *(tmp_path / "jobs").glob("*.cancel")]
        )
    assert {each.suffix for each in (tmp_path / "jobs").iterdir()} <= {".json", ".lock"}


def test_a_repeated_id_fails_a_job_before_anything_of_it_is_there(client: httpx.Client, path: str):
    twice = {"documents": documents()["documents"] + documents(1)["documents"]}
    job = ended(client, begin(client, path, twice))
    assert (job["state"], job["committed"]) == ("failed", 0)
    assert f"ids[{N}] is 'd0', and so is ids[0]" in job["detail"]
    assert count(client, path) == 0


def test_a_folder_of_jobs_that_vanishes_is_told_and_not_made_anew(tmp_path: Path):
    with serving(tmp_path) as running:
        client = running.client
        client.post("/v1/indexes", json={"name": "many"})
        shutil.rmtree(tmp_path / "jobs")
        refused = client.post("/v1/indexes/many/documents?background=true", json=documents())
        assert (refused.status_code, refused.json()["code"]) == (503, "jobs_missing")
        assert client.post("/v1/indexes/many/documents", json=documents(2)).status_code == 200
        assert client.get("/v1/jobs").json()["code"] == "jobs_missing"
        assert not (tmp_path / "jobs").exists()


# Without a server


def made(folder: Path, encoder: Encoder) -> tuple[Indexes, Jobs]:
    make_folders(folder, folder / "snapshots")
    indexes = Indexes(folder / "indexes", lambda dim: encoder)
    if "many" not in indexes.names():
        indexes.create("many", encoder.dim, 2, None, None)
    return indexes, Jobs(folder / "jobs", indexes)


def given(n: int = N) -> Any:
    return check_documents(n, [f"d{i}" for i in range(n)], [f"text number {i}" for i in range(n)], None)


def test_a_job_goes_on_in_the_next_process(tmp_path: Path, encoder: Encoder, gate: Gate):
    """It stops at its next commit; what its documents are is on disk."""
    _, jobs = made(tmp_path, encoder)
    jobs.start()
    job = jobs.begin("many", given())["id"]
    assert gate.reached.wait(30)
    closing = threading.Thread(target=jobs.close, args=(60,))
    closing.start()
    wait_until(jobs._closing.is_set)
    gate.opened.set()
    closing.join()
    assert told(jobs.get(job)) == ("queued", None, 20)
    indexes, later = made(tmp_path, encoder)
    later.tidy()
    later.start()
    wait_until(lambda: later.get(job)["ended"] is not None)
    assert told(later.get(job)) == ("done", None, N)
    assert len(indexes.get("many")) == N
    later.close(30)


def test_what_takes_longer_than_a_stop_may_is_given_up_and_goes_on_later(
    tmp_path: Path, encoder: Encoder, gate: Gate
):
    _, jobs = made(tmp_path, encoder)
    jobs.start()
    job = jobs.begin("many", given())["id"]
    assert gate.reached.wait(30)
    jobs.close(0.0)
    assert told(jobs.get(job)) == ("queued", None, 10)


@pytest.mark.parametrize("back", ["at once", "later"])
@pytest.mark.parametrize("error", [IndexNotFound("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_a_job_goes_on_when_a_data_folder_that_was_away_is_back(
    tmp_path: Path, encoder: Encoder, error: Exception, back: str, monkeypatch: pytest.MonkeyPatch
):
    """It has not failed, and is not taken for one whose index was deleted."""
    folder, away = tmp_path / "data", tmp_path / "away"
    indexes, _ = made(folder, encoder)
    data = DataFolder(folder)

    def found(error: Exception, begun: float) -> Problem:
        return problem_of(error) if data.was_there_since(begun) else data_was_missing()

    add, gone = Indexes.add_long, threading.Event()

    def goes(self: Indexes, *given: Any) -> Any:
        if gone.is_set():
            return add(self, *given)
        gone.set()
        folder.rename(away)
        if back == "at once":
            away.rename(folder)
        raise error

    monkeypatch.setattr(Indexes, "add_long", goes)
    jobs = Jobs(folder / "jobs", indexes, found)
    jobs.start()
    job = jobs.begin("many", given())["id"]
    if back == "later":
        wait_until(lambda: gone.is_set() and jobs._running is None)
        away.rename(folder)
    wait_until(lambda: jobs.get(job)["ended"] is not None)
    assert told(jobs.get(job)) == ("done", None, N)
    assert len(indexes.get("many")) == N
    jobs.close(30)
    data.close()


def test_two_processes_share_the_jobs_of_an_index_in_their_order(
    tmp_path: Path, encoder: Encoder, gate: Gate
):
    """A second runner does not touch an index whose jobs are run, and goes on when the first is gone."""
    _, one = made(tmp_path, encoder)
    _, two = made(tmp_path, encoder)
    one.start()
    first = one.begin("many", given())["id"]
    assert gate.reached.wait(30)
    second = two.begin("many", given(3))["id"]
    assert two._run_next() is False
    assert told(two.get(second)) == ("queued", None, 0)
    assert two.get(first)["state"] == "running"
    one.close(0.0)
    gate.opened.set()
    assert two._run_next() is True
    assert (told(two.get(first))[0], told(two.get(second))[0]) == ("done", "queued")
    assert two._run_next() is True and two._run_next() is False
    assert told(one.get(second)) == ("done", None, 3)


def test_a_job_that_another_process_runs_is_cancelled(tmp_path: Path, encoder: Encoder, gate: Gate):
    indexes, one = made(tmp_path, encoder)
    _, two = made(tmp_path, encoder)
    one.start()
    job = one.begin("many", given())["id"]
    assert gate.reached.wait(30)
    assert told(two.cancel(job)) == ("cancelled", "it was cancelled by a request.", 10)
    assert len(indexes.get("many")) == 10
    one.close(30)


def test_a_job_whose_process_was_killed_is_cancelled(tmp_path: Path, encoder: Encoder):
    _, jobs = made(tmp_path, encoder)
    job = jobs.begin("many", given())["id"]
    path = tmp_path / "jobs" / f"{job}.json"
    path.write_text(path.read_text().replace("queued", "running"))  # as a kill leaves it
    assert told(jobs.cancel(job)) == ("cancelled", "it was cancelled by a request.", 0)
    jobs.start()
    jobs.close(30)
    assert told(jobs.get(job))[0] == "cancelled"


def test_what_was_left_is_cleared_away(tmp_path: Path, encoder: Encoder):
    _, jobs = made(tmp_path, encoder)
    kept, old = jobs.begin("many", given())["id"], jobs.begin("many", given())["id"]
    folder = tmp_path / "jobs"
    (folder / f"{old}.documents").unlink()  # a version before had none
    assert told(jobs.get(old))[0] == "interrupted"
    left = [folder / f"{'1' * 32}{suffix}" for suffix in (".documents", ".cancel", ".json.draft")]
    for each in left:
        each.write_bytes(b"[")
    jobs.tidy()
    assert not any(each.exists() for each in left)
    assert told(jobs.get(old)) == (
        "interrupted",
        "its documents are not on disk any more. Send them again.",
        0,
    )
    assert jobs.get(kept)["state"] == "queued"
    (folder / f"{kept}.documents").write_bytes(b'["d0", "cut')
    assert jobs._run_next() is True
    assert told(jobs.get(kept))[0] == "interrupted"


# Processes

HELD = """
import os, pathlib, time
from latebolt.index.ingest import long_addition

encode, gate = long_addition.LongAddition.encode, pathlib.Path(os.environ["LATEBOLT_TEST_GATE"])
long_addition.COMMIT_DOCUMENTS = 10


def held(self, wanted=lambda: None):
    while self.progress.documents == 10 and not gate.exists():
        wanted()
        time.sleep(0.01)
    return encode(self, wanted)


long_addition.LongAddition.encode = held
"""


@pytest.fixture
def held(tmp_path: Path) -> dict[str, str]:
    """The environment of a server that does as `Gate` says, until a file "gate" is there."""
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HELD)
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": paths, "LATEBOLT_TEST_GATE": str(tmp_path / "gate")}


def stored(folder: Path, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "jobs" / f"{job.rpartition('/')[2]}.json").read_text())
    return found


def begun(client: httpx.Client, folder: Path) -> str:
    """A job that stands in its middle."""
    client.post("/v1/indexes", json={"name": "many"})
    job = begin(client, "/v1/indexes/many")
    wait_until(lambda: stored(folder, job)["committed"] == 10)
    return job


def is_done(client: httpx.Client, job: str) -> None:
    assert told(ended(client, job)) == ("done", None, N)
    ids = [each["id"] for each in documents()["documents"]]
    found = client.post("/v1/indexes/many/documents/get", json={"ids": ids}).json()["documents"]
    assert [each["id"] for each in found] == ids and count(client, "/v1/indexes/many") == N


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_goes_on_after_a_restart(tmp_path: Path, held: dict[str, str], number: signal.Signals):
    data = tmp_path / "data"
    with process(data, "--shutdown", "1", **held) as (server, client):
        job = begun(client, data)
        server.send_signal(number)
        assert server.wait(60) == (0 if number == signal.SIGTERM else -number)
    assert (stored(data, job)["committed"], stored(data, job)["ended"]) == (10, None)
    with process(data) as (_, client):
        is_done(client, job)


def test_a_job_goes_on_in_another_worker(tmp_path: Path, held: dict[str, str]):
    data = tmp_path / "data"
    with process(data, "--workers", "2", **held) as (_, client):
        wait_until(lambda: "latebolt_ready 2.0" in client.get("/metrics").text)
        job = begun(client, data)
        first = stored(data, job)["process"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stored(data, job)["process"] != first)
        (tmp_path / "gate").touch()
        with httpx.Client(base_url=client.base_url, timeout=60) as other:
            is_done(other, job)
