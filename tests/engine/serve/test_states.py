"""Indexes that cannot be used, as after a roll-back: each is named, listed with its state, and counted."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import Running, process, serving, wait_until

from latebolt import Encoder, Index
from latebolt.index.format import layout
from latebolt.serve.problems import INDEX_STATES

TEXTS = ["Paris is the capital of France.", "Berlin is the capital of Germany."]
# name -> state in the list, status and code of what is asked of it
UNUSABLE = {
    "newer": ("newer_format", 409, "index_newer_format"),
    "torn": ("damaged", 500, "index_corrupt"),
    "cut": ("damaged", 500, "index_corrupt"),
    "lacking": ("damaged", 500, "index_corrupt"),
    "notes": ("foreign", 409, "index_foreign"),
    "empty": ("foreign", 409, "index_foreign"),
    "of-others": ("foreign", 409, "index_foreign"),
    "narrow": ("other_model", 409, "model_mismatch"),
}


def newer(folder: Path) -> None:
    """As by a version to come, which numbers its format higher."""
    manifest = folder / layout.MANIFEST
    content = re.sub(rb'"format_version": \d', b'"format_version": 99', manifest.read_bytes())
    manifest.write_bytes(re.sub(rb"[0-9a-f]{32}", b"0" * 32, content, count=1))


def fill(indexes: Path, encoder: Encoder) -> None:
    with Index.create(indexes / "good", encoder) as index:
        index.add(TEXTS, ["p", "b"])
    for name in ("newer", "torn", "cut", "lacking"):
        shutil.copytree(indexes / "good", indexes / name)
    newer(indexes / "newer")
    (indexes / "torn" / layout.MANIFEST).unlink()  # a copy that was cut short: the manifest comes last
    (indexes / "cut" / layout.MANIFEST).write_bytes((indexes / "good" / layout.MANIFEST).read_bytes()[:200])
    [texts] = (indexes / "lacking").glob("segments/*/texts.sqlite")
    texts.unlink()
    (indexes / "notes").mkdir()
    (indexes / "notes" / "mine.txt").write_text("mine")
    (indexes / "empty").mkdir()
    (indexes / "of-others").mkdir()
    (indexes / "of-others" / layout.MANIFEST).write_text('{"format": "web-app", "format_version": 3}')
    Index.create(indexes / "narrow", None, dim=32).close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("states")
    fill(folder / "indexes", encoder)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    with serving(folder) as each:
        yield each


def figures(client: httpx.Client) -> dict[str, float]:
    pattern = r'^latebolt_indexes\{state="(\w+)"\} (\S+)$'
    found = re.findall(pattern, client.get("/metrics").text, re.MULTILINE)
    return {state: float(value) for state, value in found}


def test_the_list_says_what_each_is(client: httpx.Client):
    listed = {each["name"]: each for each in client.get("/v1/indexes").json()["data"]}
    assert listed.keys() == UNUSABLE.keys() | {"good"}
    assert (listed["good"]["state"], listed["good"]["documents"]) == ("ready", 2)
    for name, (state, _, _) in UNUSABLE.items():
        assert listed[name]["state"] == state
        assert listed[name].keys() == {"name", "object", "state", "detail"}
    assert "newer version of latebolt" in listed["newer"]["detail"]


@pytest.mark.parametrize("name", UNUSABLE)
def test_whatever_is_asked_of_it_is_answered_with_its_own_code(client: httpx.Client, name: str):
    _, status, code = UNUSABLE[name]
    path = f"/v1/indexes/{name}"
    document = {"documents": [{"id": "a", "text": "b"}]}
    for answer in (
        client.get(path),
        client.post(f"{path}/search", json={"query": "a"}),
        client.post(f"{path}/documents", json=document),
        client.post(f"{path}/documents?background=true", json=document),
        client.post(f"{path}/documents/get", json={"ids": ["p"]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize("name", UNUSABLE)
def test_making_one_in_its_place_says_what_is_there(client: httpx.Client, name: str):
    refused = client.post("/v1/indexes", json={"name": name})
    assert (refused.status_code, refused.json()["code"]) == (409, UNUSABLE[name][2])
    assert refused.json()["detail"].startswith("there is something of that name already: ")
    assert client.post("/v1/indexes", json={"name": "good"}).json()["code"] == "index_exists"


def test_each_state_is_counted_and_follows(running: Running, folder: Path):
    states = [state for state, _, _ in UNUSABLE.values()]
    expected = {state: states.count(state) for state in INDEX_STATES} | {"ready": 1}
    assert figures(running.client) == expected
    (folder / "indexes" / "empty").rmdir()
    (folder / "indexes" / "cut" / layout.MANIFEST).write_bytes(
        (folder / "indexes" / "good" / layout.MANIFEST).read_bytes()
    )
    try:
        assert figures(running.client) == {
            **expected,
            "foreign": expected["foreign"] - 1,
            "damaged": expected["damaged"] - 1,
            "ready": 2,
        }
        assert running.client.get("/v1/indexes/cut").json()["documents"] == 2
    finally:
        (folder / "indexes" / "empty").mkdir()
        (folder / "indexes" / "cut" / layout.MANIFEST).write_bytes(b'{"digest":')


def test_what_is_no_index_is_not_deleted(running: Running, folder: Path):
    for name in ("notes", "of-others", "empty"):
        refused = running.client.delete(f"/v1/indexes/{name}")
        assert (refused.status_code, refused.json()["code"]) == (409, "index_foreign")
    assert (folder / "indexes" / "notes" / "mine.txt").read_text() == "mine"


def test_damaged_and_newer_ones_can_be_deleted(tmp_path: Path, encoder: Encoder):
    fill(tmp_path / "indexes", encoder)
    with serving(tmp_path) as running:
        for name in ("newer", "torn", "cut", "lacking", "narrow"):
            assert running.client.delete(f"/v1/indexes/{name}").status_code == 204
            assert running.client.post("/v1/indexes", json={"name": name}).status_code == 201
        # One that is open already, and then comes to harm, is told too.
        newer(tmp_path / "indexes" / "good")
        search = running.client.post("/v1/indexes/good/search", json={"query": "a"})
        assert search.json()["code"] == "index_newer_format"
        (tmp_path / "indexes" / "good" / layout.MANIFEST).unlink()
        for answer in (
            running.client.post("/v1/indexes/good/search", json={"query": "a"}),
            running.client.get("/v1/indexes/good"),
        ):
            assert answer.json()["code"] == "index_corrupt"


def test_lines_at_the_start_name_them(tmp_path: Path, encoder: Encoder):
    fill(tmp_path / "indexes", encoder)
    lines: list[dict[str, object]] = []
    with process(tmp_path) as (server, client):
        reader = threading.Thread(target=lambda: lines.extend(map(json.loads, server.stderr)))
        reader.start()

        def n_told() -> int:
            return [line["event"] for line in lines].count("index not usable")

        wait_until(lambda: n_told() == len(UNUSABLE))
        assert client.post("/v1/indexes/torn/search", json={"query": "a"}).status_code == 500
        server.terminate()
        reader.join(20)
    told = {line["index"]: line for line in lines if line["event"] == "index not usable"}
    assert {name: line["state"] for name, line in told.items()} == {
        name: state for name, (state, _, _) in UNUSABLE.items()
    }
    assert all(line["level"] == "warning" and line["detail"] for line in told.values())
    [error] = [line for line in lines if line["event"] == "error"]
    assert (error["index"], error["code"], error["error"]) == ("torn", "index_corrupt", "IndexCorrupt")
    assert str(tmp_path) not in json.dumps(lines)


def test_the_client_reads_the_list(running: Running):
    client_module = pytest.importorskip("latebolt.client")
    with client_module.Client(running.url) as client:
        states = {each.name: (each.state, each.documents, each.detail) for each in client.list_indexes()}
    assert states["good"] == ("ready", 2, None)
    assert states["newer"][:2] == ("newer_format", 0) and "newer version" in states["newer"][2]
