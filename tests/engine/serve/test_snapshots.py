"""Snapshots over HTTP: consistent while writers work, named but never placed by requests, removable."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest
from servers import Running, process, serving

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.index.store.check import check_index

PATH = "/v1/indexes/cities"


def documents(*numbers: int) -> dict[str, object]:
    return {"documents": [{"id": f"d{n}", "text": f"document number {n}"} for n in numbers]}


def folder_of(running: Running) -> Path:
    return running.server.service.settings.snapshots_folder


def test_from_its_making_to_its_end(running: Running, index: str, encoder: Encoder):
    client = running.client
    made = client.post(f"{index}/snapshot", params={"snapshot": "before-upgrade"})
    assert made.status_code == 201
    found = made.json()
    assert found | {"created": 0, "bytes": 0} == {
        "object": "snapshot",
        "index": "cities",
        "name": "before-upgrade",
        "state": "ready",
        "created": 0,
        "documents": 3,
        "bytes": 0,
        "generation": 1,
    }
    assert found["bytes"] == client.get(index).json()["bytes"]
    client.post(f"{index}/documents/delete", json={"ids": ["paris"]})
    assert client.get("/v1/snapshots").json() == {"object": "list", "data": [found]}
    with Index.open(folder_of(running) / "cities" / "before-upgrade", encoder) as copy:
        assert copy.search("capital of France", 1)[0].id == "paris"
    # It outlives its index.
    client.delete(index)
    assert client.get("/v1/snapshots").json()["data"] == [found]
    assert client.delete("/v1/snapshots/cities/before-upgrade").status_code == 204
    assert client.get("/v1/snapshots").json()["data"] == []
    gone = client.delete("/v1/snapshots/cities/before-upgrade")
    assert (gone.status_code, gone.json()["code"]) == (404, "snapshot_not_found")
    assert list(folder_of(running).iterdir()) == []


def test_names(running: Running, index: str):
    client = running.client
    first, second = (client.post(f"{index}/snapshot").json() for _ in range(2))
    assert first["name"] != second["name"] and first["name"][:2] == "20"
    assert client.post(f"{index}/snapshot", params={"snapshot": "a"}).status_code == 201
    again = client.post(f"{index}/snapshot", params={"snapshot": "a"})
    assert (again.status_code, again.json()["code"]) == (409, "snapshot_exists")
    for name in ("../a", "/tmp/a", "..", "A", "", ".draft", "a/b"):
        refused = client.post(f"{index}/snapshot", params={"snapshot": name})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "snapshot")
    assert client.post("/v1/indexes/none/snapshot").json()["code"] == "index_not_found"
    for path in ("/v1/snapshots/..%2f..%2findexes/cities", "/v1/snapshots/cities/..", "/v1/snapshots/none/a"):
        assert client.delete(path).status_code in (404, 405, 422)
    assert client.get(index).json()["documents"] == 3
    for each in client.get("/v1/snapshots").json()["data"]:
        client.delete(f"/v1/snapshots/{each['index']}/{each['name']}")


def test_each_is_one_commit_while_requests_write(running: Running, index: str):
    """Every addition is of two documents, and every deletion of two: there is no odd number in any commit."""
    stop, failures = threading.Event(), []

    def write() -> None:
        with httpx.Client(base_url=running.url, timeout=30) as own:
            n = 0
            while not stop.is_set():
                n += 2
                answers = [own.post(f"{index}/documents", json=documents(n, n + 1))]
                if n > 8:
                    gone = {"ids": [f"d{n - 8}", f"d{n - 7}"]}
                    answers.append(own.post(f"{index}/documents/delete", json=gone))
                failures.extend(answer.text for answer in answers if answer.status_code != 200)

    writer = threading.Thread(target=write)
    running.client.post(f"{index}/documents", json=documents(0))
    writer.start()
    try:
        for _ in range(12):
            made = running.client.post(f"{index}/snapshot")
            assert made.status_code == 201, made.text
            path = folder_of(running) / "cities" / made.json()["name"]
            assert check_index(path) == []
            with Index.open(path) as copy:
                assert len(copy) % 2 == 0 and len(copy) == made.json()["documents"]
            running.client.delete(f"/v1/snapshots/cities/{made.json()['name']}")
    finally:
        stop.set()
        writer.join()
    assert failures == []


def test_the_rights_that_they_need(tmp_path: Path):
    with serving(tmp_path, keys="reader-of-snapshots read\nwriter-of-snapshots write") as running:
        client = running.client
        read, write = (
            {"Authorization": "Bearer reader-of-snapshots"},
            {"Authorization": "Bearer writer-of-snapshots"},
        )
        client.post("/v1/indexes", json={"name": "cities"}, headers=write)
        assert client.post(f"{PATH}/snapshot", headers=read).status_code == 403
        made = client.post(f"{PATH}/snapshot", headers=write).json()
        assert client.get("/v1/snapshots", headers=read).json()["data"] == [made]
        path = f"/v1/snapshots/cities/{made['name']}"
        assert client.delete(path, headers=read).status_code == 403
        assert client.delete(path, headers=write).status_code == 204


def test_their_folder_is_a_setting_and_restoring_is_one_command(tmp_path: Path, encoder: Encoder):
    with Index.create(tmp_path / "mine", encoder) as index:
        index.add(["Paris is in France.", "Berlin is in Germany."], ["p", "b"])
    settings = {"snapshots": str(tmp_path / "elsewhere"), "index": (f"cities={tmp_path / 'mine'}",)}
    with serving(tmp_path / "data", **settings) as running:
        made = running.client.post(f"{PATH}/snapshot", params={"snapshot": "a"}).json()
        backup, place = tmp_path / "elsewhere" / "cities" / "a", tmp_path / "data" / "indexes" / "again"
        assert made["documents"] == 2 and backup.is_dir()
        assert run(["restore", str(backup), str(place)]) == 0
        found = running.client.post("/v1/indexes/again/search", json={"query": "Germany", "k": 1})
        assert found.json()["hits"][0]["id"] == "b"
        assert check_index(place) == []
        # A folder that has gone is told and not made anew.
        running.client.delete("/v1/snapshots/cities/a")
        (tmp_path / "elsewhere").rmdir()
        missing = running.client.post(f"{PATH}/snapshot")
        assert (missing.status_code, missing.json()["code"]) == (503, "snapshots_missing")
        assert not (tmp_path / "elsewhere").exists()


def test_what_was_cut_short_is_removed_at_the_next_start(tmp_path: Path):
    with process(tmp_path) as (_, client):
        client.post("/v1/indexes", json={"name": "cities"})
        client.post(f"{PATH}/snapshot", params={"snapshot": "kept"})
    folder = tmp_path / "snapshots"
    left = folder / "cities" / (".latebolt-draft-" + "a" * 32)
    (left / "new" / "segments").mkdir(parents=True)
    (left / "draft.json").write_text(json.dumps({"target": "b", "process": 1, "started": 1}))
    (folder / ".deleted-1" / "segments").mkdir(parents=True)
    with process(tmp_path) as (_, client):
        assert [each["name"] for each in client.get("/v1/snapshots").json()["data"]] == ["kept"]
    assert [path.name for path in folder.iterdir()] == ["cities"]
    assert [path.name for path in (folder / "cities").iterdir()] == ["kept"]


def test_one_that_came_to_harm_is_listed_as_such(running: Running, index: str):
    client = running.client
    client.post(f"{index}/snapshot", params={"snapshot": "b"})
    (folder_of(running) / "cities" / "b" / "manifest.json").write_text("{")
    [found] = client.get("/v1/snapshots").json()["data"]
    assert (found["name"], found["state"], found["documents"]) == ("b", "damaged", None)
    assert client.delete("/v1/snapshots/cities/b").status_code == 204


def test_the_client_makes_lists_and_removes_them(running: Running, index: str):
    client_module = pytest.importorskip("latebolt.client")
    with client_module.Client(running.url) as client:
        made = client.snapshot_index("cities", "by-client")
        assert (made.name, made.state, made.documents) == ("by-client", "ready", 3)
        assert client.list_snapshots() == [made]
        assert client.snapshot_index("cities").name != made.name
        for each in client.list_snapshots():
            client.delete_snapshot(each.index, each.name)
        assert client.list_snapshots() == []
