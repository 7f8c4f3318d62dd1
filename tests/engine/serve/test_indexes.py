"""Named indexes and jobs over HTTP, held against the library."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Running, serving, wait_until

from latebolt import Encoder, Index
from latebolt.corpus.documents import document_of_line
from latebolt.errors import InvalidInput
from latebolt.index.format.lock import writer_lock
from latebolt.serve.keys import Keys
from latebolt.serve.settings import Settings
from latebolt.serve.state import jobs
from latebolt.serve.state.service import Service


def documents(n: int, first: int = 0) -> list[dict[str, object]]:
    return [
        {"id": f"d{i}", "text": f"document number {i} about topic {i % 7}", "metadata": {"n": i}}
        for i in range(first, first + n)
    ]


def ids(response: httpx.Response) -> list[str]:
    return [hit["id"] for hit in response.json()["hits"]]


def test_an_index_from_its_making_to_its_end(client: httpx.Client):
    made = client.post("/v1/indexes", json={"name": "life", "bits": 4, "dimensions": 64})
    assert made.status_code == 201
    assert (made.json()["bits"], made.json()["dimensions"], made.json()["documents"]) == (4, 64, 0)
    assert client.post("/v1/indexes", json={"name": "life"}).json()["code"] == "index_exists"
    added = client.post("/v1/indexes/life/documents", json={"documents": documents(5)})
    assert added.json() == {
        "index": "life",
        "added": 5,
        "truncated": 0,
        "unread_script": False,
        "ids": [f"d{i}" for i in range(5)],
    }
    assert [each["name"] for each in client.get("/v1/indexes").json()["data"]] == ["life"]
    again = [{**documents(1)[0], "text": "replaced by zebras"}]
    client.post("/v1/indexes/life/documents", json={"documents": again})
    client.post("/v1/indexes/life/documents", json={"documents": again})
    assert client.get("/v1/indexes/life").json()["documents"] == 5
    found = client.post("/v1/indexes/life/search", json={"query": "zebras", "k": 1}).json()["hits"]
    assert (found[0]["id"], found[0]["text"], found[0]["metadata"]) == ("d0", "replaced by zebras", {"n": 0})
    removed = client.post("/v1/indexes/life/documents/delete", json={"ids": ["d0", "nobody"]})
    assert removed.json() == {"index": "life", "deleted": 1}
    assert "d0" not in ids(client.post("/v1/indexes/life/search", json={"query": "zebras"}))
    assert client.delete("/v1/indexes/life").status_code == 204
    assert client.get("/v1/indexes/life").json()["code"] == "index_not_found"
    assert client.get("/v1/indexes").json()["data"] == []
    remade = client.post("/v1/indexes", json={"name": "life"})
    assert (remade.json()["dimensions"], remade.json()["documents"]) == (128, 0)
    client.delete("/v1/indexes/life")


@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
def test_a_search_is_the_librarys(running: Running, index: str, encoder: Encoder, mode: str):
    request = {"query": "capital of Germany", "k": 2, "where": "since > 1000", "mode": mode}
    hits = running.client.post(f"{index}/search", json=request).json()["hits"]
    folder = running.server.service.settings.data_folder / "indexes" / "cities"
    with Index.open(folder, encoder) as opened:
        expected = opened.search("capital of Germany", 2, "since > 1000", mode=mode)  # type: ignore[arg-type]
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected])
    told = [(hit.get("confidence"), hit.get("weak", False)) for hit in hits]
    assert told == [(hit.confidence, hit.weak) for hit in expected]
    assert all((confidence is None) == (mode == "bm25") for confidence, _ in told)


def test_an_explained_search_shows_characters_and_stages(client: httpx.Client, index: str):
    query = "capital of Germany"
    answer = client.post(f"{index}/search", json={"query": query, "k": 2, "explain": True}).json()
    assert answer["stages"][0]["name"] == "encode the query"
    [match] = [m for m in answer["hits"][0]["matches"] if m["query"] and m["query"]["text"] == "Germany"]
    text = answer["hits"][0]["text"]
    assert text[match["document"]["start"] : match["document"]["end"]] == "Germany"
    assert match["similarity"] > 0.8


@pytest.mark.parametrize("emptied", [False, True])
def test_a_filter_that_cannot_be_read(client: httpx.Client, index: str, emptied: bool):
    if emptied:
        client.post(f"{index}/documents/delete", json={"ids": ["paris", "berlin", "rome"]})
    response = client.post(f"{index}/search", json={"query": "a", "where": "since >"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "where"


@pytest.mark.parametrize(
    "name", ["../up", "..", "UP", "a/b", "a.b", "", "-a", "a" * 65, "a\n", ".deleted-1", "é"]
)
def test_names_that_are_none(client: httpx.Client, name: str):
    refused = client.post("/v1/indexes", json={"name": name})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("name: should be 1 to 64 of a-z, 0-9, _ and -")
    path = httpx.URL(client.base_url).copy_with(
        raw_path=b"/v1/indexes/" + b"".join(b"%%%02x" % b for b in name.encode())
    )
    assert client.get(path).status_code in (404, 422) if name else True


@pytest.mark.parametrize("query", ["", " \n\u3000"])
def test_an_empty_query_is_told_as_one(client: httpx.Client, index: str, query: str):
    for path, request in [(f"{index}/search", {}), ("/v1/rerank", {"documents": ["a"]})]:
        refused = client.post(path, json={"query": query, **request})
        assert refused.status_code == 422
        assert refused.json()["detail"] == "query: is empty. Give it at least one word"


def test_an_index_of_another_model_is_refused(running: Running, tmp_path: Path):
    folder = running.server.service.settings.data_folder / "indexes" / "foreign"
    Index.create(folder, None, dim=32).close()
    response = running.client.post("/v1/indexes/foreign/search", json={"query": "a"})
    assert (response.status_code, response.json()["code"]) == (409, "model_mismatch")
    assert running.client.delete("/v1/indexes/foreign").status_code == 204


def test_a_job_adds_while_searches_are_answered(client: httpx.Client, index: str):
    job = client.post(f"{index}/documents", params={"background": True}, json={"documents": documents(300)})
    assert (job.status_code, job.json()["documents"]) == (202, 300)
    path = f"/v1/jobs/{job.json()['id']}"
    searches = 0
    while client.get(path).json()["state"] in ("queued", "running"):
        assert "berlin" in ids(client.post(f"{index}/search", json={"query": "capital of Germany"}))
        searches += 1
    assert searches > 3
    ended = client.get(path).json()
    assert (ended["state"], ended["detail"]) == ("done", None)
    assert ended["ended"] >= ended["created"]
    assert client.get(index).json()["documents"] == 303
    assert client.get("/v1/jobs").json()["data"][0]["id"] == ended["id"]


def test_a_job_whose_index_is_deleted_before_its_turn_is_cancelled(client: httpx.Client, index: str):
    client.post("/v1/indexes", json={"name": "brief"})
    background = {"background": True}
    client.post(f"{index}/documents", params=background, json={"documents": documents(200)})
    job = client.post("/v1/indexes/brief/documents", params=background, json={"documents": documents(1)})
    client.delete("/v1/indexes/brief")
    path = f"/v1/jobs/{job.json()['id']}"
    wait_until(lambda: client.get(path).json()["ended"] is not None)
    ended = client.get(path).json()
    assert (ended["state"], ended["detail"]) == ("cancelled", "its index was deleted.")


def test_jobs_that_are_none(client: httpx.Client):
    assert client.get("/v1/jobs/none").json()["code"] == "job_not_found"
    path = "/v1/indexes/none/documents"
    lost = client.post(path, params={"background": True}, json={"documents": documents(1)})
    assert lost.json()["code"] == "index_not_found"


def test_several_writers_of_one_index_take_turns(running: Running, index: str):
    def add(n: int) -> None:
        path = f"{running.url}{index}/documents"
        statuses.append(httpx.post(path, json={"documents": documents(3, 10 * n)}, timeout=60).status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert running.client.get(index).json()["documents"] == 27


def test_a_writer_of_another_process_is_waited_for(running: Running, index: str):
    folder = running.server.service.settings.data_folder / "indexes" / "cities"
    done: list[int] = []
    with writer_lock(folder):
        thread = threading.Thread(
            target=lambda: done.append(
                httpx.post(f"{running.url}{index}/documents", json={"documents": documents(1)}).status_code
            )
        )
        thread.start()
        thread.join(0.3)
        assert not done
    thread.join()
    assert done == [200]


def test_an_addition_whose_client_left_changes_nothing(tmp_path: Path):
    with serving(tmp_path, cache_mb=0) as running:
        client = running.client
        client.post("/v1/indexes", json={"name": "a"})
        many = [{"id": str(i), "text": "many words " * 100} for i in range(600)]
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/indexes/a/documents", json={"documents": many}, timeout=0.5)
        wait_until(lambda: running.server.service.batcher.seconds_waiting == 0, 5)
        assert client.post("/v1/indexes/a/documents", json={"documents": documents(2)}).status_code == 200
        assert client.get("/v1/indexes/a").json()["documents"] == 2


def test_passages(client: httpx.Client):
    made = client.post("/v1/indexes", json={"name": "long", "passage_tokens": 20, "passage_overlap": 5})
    assert (made.json()["passage_tokens"], made.json()["passage_overlap"]) == (20, 5)
    text = "filler words here and there. " * 20 + "The zebra is striped. " + "more filler words. " * 20
    client.post("/v1/indexes/long/documents", json={"documents": [{"id": "a", "text": text}]})
    answer = client.post("/v1/indexes/long/search", json={"query": "striped zebra", "explain": True}).json()
    [hit] = answer["hits"]
    assert "zebra" in hit["text"]
    assert len(hit["text"]) < len(text)
    too_long = client.post("/v1/indexes", json={"name": "other", "passage_tokens": 100_000})
    assert too_long.status_code == 422
    client.delete("/v1/indexes/long")


def test_pooling(client: httpx.Client):
    made = client.post("/v1/indexes", json={"name": "pooled", "pool_factor": 2, "max_vectors": 30}).json()
    assert (made["pool_factor"], made["max_vectors"]) == (2, 30)
    text = "filler words here and there. " * 20 + "The zebra is striped."
    client.post("/v1/indexes/pooled/documents", json={"documents": [{"id": "a", "text": text}]})
    more = {"documents": [{"id": "b", "text": text * 2}]}
    job = client.post("/v1/indexes/pooled/documents?background=true", json=more).json()
    wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done", 60)
    assert client.get("/v1/indexes/pooled").json()["tokens"] == 60
    answer = client.post("/v1/indexes/pooled/search", json={"query": "striped zebra", "explain": True})
    matches = answer.json()["hits"][0]["matches"]
    assert any("zebra" in (match["document"] or {}).get("text", "") for match in matches)
    for wrong in ({"max_vectors": 1}, {"max_vectors": 10**30}, {"pool_factor": 0}, {"pool_factor": 10**30}):
        refused = client.post("/v1/indexes", json={"name": "other", **wrong})
        assert refused.status_code == 422 and next(iter(wrong)) in refused.text
    client.delete("/v1/indexes/pooled")


def test_a_write_that_is_given_up_while_it_waits_leaves_its_thread(tmp_path: Path):
    with serving(tmp_path, timeout=0.3) as running:
        client = running.client
        client.post("/v1/indexes", json={"name": "a"})
        client.post("/v1/indexes", json={"name": "b"})
        with writer_lock(tmp_path / "indexes" / "a"):
            for _ in range(20):  # more than there are threads for writing
                late = client.post("/v1/indexes/a/documents", json={"documents": documents(1)})
                assert late.status_code == 504
            other = client.post("/v1/indexes/b/documents", json={"documents": documents(1)})
            assert other.status_code == 200
        wait_until(
            lambda: (
                client.post("/v1/indexes/a/documents", json={"documents": documents(1)}).status_code == 200
            )
        )


@pytest.mark.parametrize("background", [False, True])
def test_metadata_that_json_cannot_hold_is_refused_where_it_is_read(
    client: httpx.Client, index: str, background: bool
):
    content = (
        '{"documents": [{"id": "a", "text": "b"}, {"id": "é", "text": "b", "metadata": {"x": [1e400]}}]}'
    )
    headers = {"Content-Type": "application/json"}
    params = {"background": background}
    answer = client.post(f"{index}/documents", params=params, content=content.encode(), headers=headers)
    assert answer.status_code == 422
    [fault] = answer.json()["errors"]
    assert fault["field"] == "documents.1" and fault["message"].startswith("metadata.x is inf, which JSON")


def test_jobs_that_wait_are_bounded(client: httpx.Client, index: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "_MOST_WAITING", 100)
    background = {"background": True}
    first = client.post(f"{index}/documents", params=background, json={"documents": documents(100)})
    second = client.post(f"{index}/documents", params=background, json={"documents": documents(100)})
    assert (first.status_code, second.status_code) == (202, 429)
    wait_until(lambda: client.get(f"/v1/jobs/{first.json()['id']}").json()["state"] == "done")


def test_an_index_that_lies_elsewhere(tmp_path: Path, encoder: Encoder):
    with Index.create(tmp_path / "mine", encoder) as index:
        index.add(["Paris is in France.", "Berlin is in Germany."], ["p", "b"])
    given = (f"cities={tmp_path / 'mine'}",)
    with serving(tmp_path / "data", index=given) as running:
        path, client = "/v1/indexes/cities", running.client
        assert [each["name"] for each in client.get("/v1/indexes").json()["data"]] == ["cities"]
        assert ids(client.post(f"{path}/search", json={"query": "Germany", "k": 1})) == ["b"]
        assert client.post(f"{path}/documents", json={"documents": documents(1)}).status_code == 200
        assert client.post("/v1/indexes", json={"name": "cities"}).json()["code"] == "index_exists"
        refused = client.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "index_given")
    with Index.open(tmp_path / "mine") as index:
        assert len(index) == 3


@pytest.mark.parametrize("given", ["cities", "cities=", "Cities=x", "a/b=x", "=x"])
def test_what_is_no_name_and_folder_is_refused(given: str):
    with pytest.raises(InvalidInput, match="--index should be NAME=FOLDER"):
        Settings(index=(given,))


def test_an_index_given_twice_or_missing_is_named(tmp_path: Path):
    with pytest.raises(InvalidInput, match="a name is given twice"):
        Settings(index=("a=x", "a=y"))
    service = Service(Settings(data=str(tmp_path), index=(f"gone={tmp_path}/gone",)), Keys("", None))
    failed = threading.Event()
    service.start(failed.set)
    assert failed.wait(30)
    assert f"--index gone={tmp_path}/gone: there is no index in that folder" in str(service.failure)
    service.close()


def test_indexes_are_searched_before_the_server_is_ready(tmp_path: Path, monkeypatch):
    """By queries of several lengths, each of which asks for another kernel, so that no request waits for one
    to be compiled; an index that does not fit the model stops nobody."""
    folder = tmp_path / "indexes"
    Index.create(folder / "odd", None, dim=32).close()
    (folder / "broken").mkdir()
    with serving(tmp_path) as running:
        running.client.post("/v1/indexes", json={"name": "cities"})
    searched = []
    search = Index.search_many

    def noted(self: Index, queries: list[str], *rest: Any, **more: Any) -> Any:
        tokens = len(self.encoder.encode_queries(queries)[0])
        searched.append((self.path.name, len([n for n in (8, 16, 32) if tokens > n / 2])))
        return search(self, queries, *rest, **more)

    monkeypatch.setattr(Index, "search_many", noted)
    with serving(tmp_path) as running:
        assert running.client.post("/v1/indexes/odd/search", json={"query": "a"}).status_code == 409
        assert searched == [("cities", n) for n in range(4)]  # up to 4, 8, 16 and 32 tokens


def test_fields_that_nobody_knows_are_refused_by_name(client: httpx.Client, index: str):
    for field, value, meant in [
        ("filter", "since > 1900", "where"),
        ("filters", {}, "where"),
        ("top_k", 1, "k"),
        ("limit", 1, "k"),
        ("querry", "a", "query"),
        ("explian", True, "explain"),
    ]:
        refused = client.post(f"{index}/search", json={"query": "capital", field: value})
        assert refused.status_code == 422
        [fault] = refused.json()["errors"]
        assert (fault["field"], fault["type"]) == (field, "extra_forbidden")
        assert f'did you mean "{meant}"?' in fault["message"]
    assert "There are: query, k, where" in client.post(f"{index}/search", json={"query": "a", "xyz": 1}).text
    for path, request, meant in [
        ("/v1/indexes", {"name": "a", "dim": 64}, "dimensions"),
        ("/v1/indexes", {"name": "a", "nbits": 4}, "bits"),
        (f"{index}/documents", {"documents": [], "docs": []}, "documents"),
        (f"{index}/documents/delete", {"ids": [], "id": "a"}, "ids"),
    ]:
        assert f'did you mean \\"{meant}\\"?' in client.post(path, json=request).text
    assert client.post("/v1/rerank", json={"query": "a", "documents": ["b"], "top_k": 1}).status_code == 200


def test_fields_of_a_document_are_its_metadata_as_in_a_line_of_a_file(client: httpx.Client, index: str):
    records = [
        {"id": "a", "text": "x", "year": 1999, "tenant": "t1", "none": None, "empty": ""},
        {"id": "b", "text": "x", "metadata": {"year": 2001}, "tenant": "t2"},
        {"id": "c", "text": "x", "metadata": {"year": 2001}, "year": 2001},
        {"id": "d", "text": "x", "metadata": None, "tenant": "t2"},
        {"id": "e", "text": "x"},
    ]
    assert client.post(f"{index}/documents", json={"documents": records}).status_code == 200
    found = client.post(f"{index}/search", json={"query": "x", "k": 9}).json()["hits"]
    kept = {hit["id"]: hit["metadata"] for hit in found if hit["id"] in "abcde"}
    lines = [document_of_line(json.dumps(record), "line") for record in records]
    assert kept == {line.id: line.metadata for line in lines}
    assert (kept["a"], kept["b"]) == ({"year": 1999, "tenant": "t1"}, {"year": 2001, "tenant": "t2"})
    only = client.post(f"{index}/search", json={"query": "x", "where": 'tenant = "t2"'})
    assert set(ids(only)) == {"b", "d"}
    two = {"id": "f", "text": "x", "metadata": {"year": 1}, "year": 2}
    refused = client.post(f"{index}/documents", json={"documents": [two]})
    assert refused.status_code == 422
    assert (refused.json()["errors"][0]["field"], '"year"' in refused.json()["detail"]) == (
        "documents.0",
        True,
    )
    with pytest.raises(InvalidInput, match='line: the field "year"'):
        document_of_line(json.dumps(two), "line")


def test_nothing_to_do_is_done(client: httpx.Client, index: str):
    path = f"{index}/documents"
    assert client.post(path, json={"documents": []}).json() == {
        "index": "cities",
        "added": 0,
        "truncated": 0,
        "unread_script": False,
        "ids": [],
    }
    assert client.post(f"{path}/delete", json={"ids": []}).json() == {"index": "cities", "deleted": 0}
    job = client.post(path, params={"background": True}, json={"documents": []}).json()
    wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")
    assert client.get(index).json()["documents"] == 3
    assert client.post("/v1/indexes/none/documents", json={"documents": []}).status_code == 404
    for jina, request in [("rerank", {"query": "a", "documents": []}), ("multi-vector", {"input": []})]:
        assert client.post(f"/v1/{jina}", json=request).status_code == 422


def test_texts_that_the_model_does_not_read_to_their_end_are_counted(
    client: httpx.Client, index: str, caplog: pytest.LogCaptureFixture
):
    long, metric = "many words " * 800, 'latebolt_truncated_texts_total{lane="document"}'

    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric))

    before = counted()
    with caplog.at_level(logging.INFO, "latebolt"):
        records = [{"id": "a", "text": long}, {"id": "b", "text": "short"}, {"id": "c", "text": long}]
        assert client.post(f"{index}/documents", json={"documents": records}).json()["truncated"] == 2
        request = {"query": long, "documents": [long, "short"]}
        ranked = client.post("/v1/rerank", json=request).json()
        assert ranked["usage"]["truncated_texts"] == 2
        vectors = client.post(
            "/v1/embeddings", json={"input": ["a", long], "embedding_type": "ubinary"}
        ).json()
        assert vectors["usage"]["truncated_texts"] == 1
        for more in ({}, {"explain": True}):
            assert client.post(f"{index}/search", json={"query": long, **more}).json()["truncated"] is True
            assert (
                client.post(f"{index}/search", json={"query": "capital", **more}).json()["truncated"] is False
            )
        assert (
            client.post(f"{index}/search", json={"query": long, "mode": "bm25"}).json()["truncated"] is False
        )
        job = client.post(f"{index}/documents?background=true", json={"documents": records}).json()
        assert job["truncated"] is None
        path = f"/v1/jobs/{job['id']}"
        wait_until(lambda: client.get(path).json()["state"] == "done")
        assert client.get(path).json()["truncated"] == 2
    assert counted() == before + 2 + 1 + 1 + 2
    told = [record.fields.get("truncated") for record in caplog.records if hasattr(record, "fields")]
    assert [n for n in told if n] == [2, 2, 1, 1, 1]
    assert not any("many words" in record.getMessage() for record in caplog.records)
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)


def test_texts_in_a_script_that_the_model_does_not_read_are_told(
    client: httpx.Client, index: str, caplog: pytest.LogCaptureFixture
):
    """In each answer, job, request's line and metric; a warning says it once an index."""
    russian = "Все люди рождаются свободными и равными."

    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = "latebolt_unread_script_additions_total"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def add(*texts: str, **options: bool) -> dict[str, object]:
        records = [{"id": f"{i}", "text": text} for i, text in enumerate(texts)]
        found: dict[str, object] = client.post(
            f"{index}/documents", params=options, json={"documents": records}
        ).json()
        return found

    before = counted()
    with caplog.at_level(logging.INFO, "latebolt"):
        assert add("Größe und Gewicht", "hello")["unread_script"] is False
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert add(russian)["unread_script"] is True
        assert add(russian, russian)["unread_script"] is True
        assert add(russian, "all people are born free", "and equal in rights")["unread_script"] is False
        job = add(russian, background=True)
        assert job["unread_script"] is None
        path = f"/v1/jobs/{job['id']}"
        wait_until(lambda: client.get(path).json()["state"] == "done")
        assert client.get(path).json()["unread_script"] is True
    assert counted() == before + 3
    requests = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert sum(fields.get("unread_script", False) for fields in requests) == 2
    [told] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert told.getMessage() == "script not read"
    assert (told.fields["index"], told.fields["model"]) == ("cities", "starter")
    assert told.fields["share"] > 0.9 and "--model multilingual" in told.fields["way_out"]
    # Another index of that name is told of again.
    client.delete(index)
    client.post("/v1/indexes", json={"name": "cities"})
    with caplog.at_level(logging.INFO, "latebolt"):
        add(russian)
    assert [record.getMessage() for record in caplog.records].count("script not read") == 2


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("query", {"query": " ".join(f"w{i}" for i in range(200_000)), "mode": "bm25"}),
        ("query", {"query": "a" + "\u0301" * 1_000_000}),
        ("where", {"query": "a", "where": " and ".join(["since = 1"] * 50_000)}),
        ("where", {"query": "a", "where": {"or": [{"since": "x" * 100}] * 15_000}}),
        ("where", {"query": "a", "where": {"since": {"in": ["x" * 50_000] * 40}}, "explain": True}),
    ],
)
def test_what_would_hold_a_thread_for_minutes_is_refused_at_once(
    client: httpx.Client, index: str, field: str, request_: dict[str, object]
):
    refused = client.post(f"{index}/search", json=request_)
    assert refused.status_code == 422
    assert all(fault["field"].startswith(field) for fault in refused.json()["errors"])


def test_documents_by_their_ids(client: httpx.Client, index: str):
    found = client.post(f"{index}/documents/get", json={"ids": ["rome", "nowhere", "paris"]})
    assert found.json()["documents"] == [
        {"id": "rome", "text": "Rome is the capital of Italy.", "metadata": {"since": 1871}},
        None,
        {"id": "paris", "text": "Paris is the capital of France.", "metadata": {"since": 987}},
    ]
    for request in ({"ids": ["a"] * 1001}, {"ids": [""]}, {"ids": "rome"}, {}):
        assert client.post(f"{index}/documents/get", json=request).status_code == 422
    assert client.post("/v1/indexes/none/documents/get", json={"ids": []}).status_code == 404


def metadata(client: httpx.Client, index: str, *ids_: str) -> list[Any]:
    found = client.post(f"{index}/documents/get", json={"ids": list(ids_)}).json()["documents"]
    return [each and each["metadata"] for each in found]


def test_metadata_move_over_http(client: httpx.Client, index: str):
    before = client.post(f"{index}/search", json={"query": "capital of Italy"}).json()["hits"]
    changed = client.patch(
        f"{index}/documents", json={"ids": ["rome", "nowhere"], "set": {"seen": {"by": "é"}, "n": True}}
    )
    assert changed.status_code == 200 and changed.json() == {"index": index.rpartition("/")[2], "updated": 1}
    assert metadata(client, index, "rome") == [{"since": 1871, "seen": {"by": "é"}, "n": True}]
    request = {"query": "capital", "where": {"seen.by": "é"}}
    assert ids(client.post(f"{index}/search", json=request)) == ["rome"]
    moved = {"where": "since > 1000", "set": {"seen.by": 1}, "unset": ["since"]}
    n = client.patch(f"{index}/documents", json=moved).json()["updated"]
    assert n >= 1 and metadata(client, index, "rome") == [{"seen": {"by": 1}, "n": True}]
    assert client.patch(f"{index}/documents", json={**moved, "ids": ["paris"]}).json()["updated"] == 0
    emptied = {"ids": ["rome"], "where": {"n": True}, "replace": {}}
    assert client.patch(f"{index}/documents", json=emptied).json()["updated"] == 1
    after = client.post(f"{index}/search", json={"query": "capital of Italy"}).json()["hits"]
    assert [(h["id"], h["score"]) for h in after] == [(h["id"], h["score"]) for h in before]
    assert client.get("/metrics").text.count('route="/v1/indexes/{name}/documents"') >= 1


def test_a_change_of_an_index_that_is_not_there(client: httpx.Client):
    assert client.patch("/v1/indexes/none/documents", json={"ids": [], "unset": ["a"]}).status_code == 404


def test_documents_are_deleted_by_a_filter(client: httpx.Client, index: str):
    request = {"where": {"since": {"<": 1000}}}
    assert client.post(f"{index}/documents/delete", json={**request, "ids": ["rome"]}).json()["deleted"] == 0
    assert client.post(f"{index}/documents/delete", json=request).json()["deleted"] == 1
    assert metadata(client, index, "paris", "rome") == [None, {"since": 1871}]
    assert client.post(f"{index}/documents/delete", json={"where": "exists(id)"}).json()["deleted"] >= 1
    assert client.get(index).json()["documents"] == 0


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        ({"set": {"a": 1}}, "", "give ids or where"),
        ({"ids": None, "where": None, "set": {"a": 1}}, "", "give ids or where"),
        ({"where": {}, "set": {"a": 1}}, "where", "is every document"),
        ({"where": "since =", "set": {"a": 1}}, "where", "expected a value"),
        ({"where": "sinse = 1", "set": {"a": 1}}, "where", "no document has the field"),
        ({"where": {"since": {"in": ["x" * 20_000] * 60}}, "set": {"a": 1}}, "where", "bytes as JSON"),
        ({"ids": ["rome"]}, "", "there is nothing to change"),
        ({"ids": "rome", "set": {"a": 1}}, "ids", "list"),
        ({"ids": [1], "set": {"a": 1}}, "ids.0", "string"),
        ({"ids": ["rome"], "set": [1]}, "set", "dictionary"),
        ({"ids": ["rome"], "set": {"a": 1}, "unset": ["a"]}, "", "not in both"),
        ({"ids": ["rome"], "unset": "a"}, "unset", "list"),
        ({"ids": ["rome"], "unset": [""]}, "unset", "name of a field"),
        ({"ids": ["rome"], "replace": {}, "set": {"a": 1}}, "", "not both"),
        ({"ids": ["rome"], "set": {"a": 1}, "metadata": {}}, "metadata", "is not known here"),
    ],
)
def test_a_change_that_does_not_fit_changes_nothing(
    client: httpx.Client, index: str, request_: Any, field: str, said: str
):
    refused = client.patch(f"{index}/documents", json=request_)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == field and said in refused.json()["detail"]
    assert metadata(client, index, "rome") == [{"since": 1871}]


@pytest.mark.parametrize(
    ("request_", "field"),
    [({}, ""), ({"where": {}}, "where"), ({"where": "sinse = 1"}, "where"), ({"ids": [1]}, "ids.0")],
)
def test_a_deletion_that_does_not_fit_deletes_nothing(
    client: httpx.Client, index: str, request_: Any, field: str
):
    refused = client.post(f"{index}/documents/delete", json=request_)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    assert client.get(index).json()["documents"] == 3


def test_a_change_waits_for_another_process_and_blocks_no_search(running: Running, index: str):
    folder = running.server.service.settings.data_folder / "indexes" / "cities"
    with httpx.Client(base_url=running.url, timeout=30) as client:
        done: list[httpx.Response] = []
        change = {"ids": ["rome"], "set": {"waited": True}}
        with writer_lock(folder):
            thread = threading.Thread(
                target=lambda: done.append(client.patch(f"{index}/documents", json=change))
            )
            thread.start()
            assert ids(client.post(f"{index}/search", json={"query": "Italy", "k": 1})) == ["rome"]
            assert not done
        thread.join(30)
        assert done[0].json()["updated"] == 1
