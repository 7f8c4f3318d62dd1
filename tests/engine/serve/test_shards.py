"""A server whose indexes lie on shards, held against one that has the same index whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import serving

from latebolt import Encoder, Index
from latebolt.client import Client
from latebolt.errors import LateboltError, ServerError, StorageFull
from latebolt.hits import PartialHits
from latebolt.serve.problems import problem_of
from latebolt.serve.state.shards import sharded_holdings
from latebolt.sharding import split
from latebolt.sharding.local import LocalShard
from latebolt.sharding.set_file import shard_folder

SHARDS = 3
TOPICS = ("trains", "bread", "lions", "rain")


class Shard(LocalShard):
    """A shard that can be made to fail."""

    fault: Exception | None = None

    def call(self, method: Any, *arguments: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return super().call(method, *arguments)


class Both:
    """Two servers of the same documents."""

    def __init__(self, whole: httpx.Client, sharded: httpx.Client, shards: list[Shard]) -> None:
        self.whole, self.sharded, self.shards = whole, sharded, shards

    def ask(self, path: str, **body: Any) -> tuple[Any, Any]:
        """Answers of both; their statuses are equal."""
        one, other = (each.post(f"/v1/indexes/docs/{path}", json=body) for each in (self.whole, self.sharded))
        assert one.status_code == other.status_code, (one.text, other.text)
        return one.json(), other.json()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[Both]:
    root = tmp_path_factory.mktemp("shards")
    folder = root / "whole" / "indexes" / "docs"
    with Index.create(folder, encoder) as index:
        for first in (0, 40):
            texts = [f"text {i} about {TOPICS[i % 4]} and {TOPICS[i % 3]}" for i in range(first, first + 40)]
            ids = [f"d{i}" for i in range(first, first + 40)]
            index.add(texts, ids, [{"n": int(id[1:])} for id in ids])
        index.delete(["d3", "d41"])
    split(folder, root / "set", SHARDS)
    shards = [Shard(shard_folder(root / "set", number), threads=1) for number in range(SHARDS)]
    holdings = sharded_holdings({"docs": shards}, 5.0)
    with serving(root / "whole") as whole, serving(root / "none", holdings=holdings) as sharded:
        yield Both(whole.client, sharded.client, shards)


@pytest.fixture
def dead(both: Both) -> Iterator[int]:
    """A shard that gives no answer."""
    both.shards[1].fault = LateboltError("no answer")
    yield 1
    both.shards[1].fault = None


@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
@pytest.mark.parametrize("where", [None, "n >= 20 and n < 70", {"n": {"in": [1, 2, 5]}}])
def test_it_answers_as_the_whole_does(both: Both, mode: str, where: Any):
    for query in ("lions in the rain", "bread"):
        for k in (1, 7, 50):
            body = {"query": query, "k": k, "mode": mode, "where": where}
            whole, sharded = both.ask("search", **body)
            assert whole == sharded and whole["hits"]
        whole, sharded = both.ask("search", **body, explain=True)
        assert whole["hits"] == sharded["hits"] and "matches" in whole["hits"][0]
        assert {each["segment"].split("/")[0] for each in sharded["roads"]} <= {
            f"shard-{number}" for number in range(SHARDS)
        }


def test_what_does_not_fit_is_refused_as_the_whole_does(both: Both):
    for body in ({"query": "a", "where": "n >"}, {"query": " "}, {"query": "a", "mode": "bm25", "k": 0}):
        whole, sharded = both.ask("search", **body)
        del whole["request_id"], sharded["request_id"]
        assert sharded["errors"][0]["field"] == whole["errors"][0]["field"]
    assert both.sharded.get("/v1/indexes/other").json()["code"] == "index_not_found"


def test_documents_come_go_and_change(both: Both):
    new = [{"id": f"new{i}", "text": f"zebras graze {i}", "metadata": {"n": 100 + i}} for i in range(9)]
    whole, sharded = both.ask("documents", documents=new)
    assert sharded == whole and sharded["added"] == 9
    assert both.ask("search", query="zebras", k=9)[0] == both.ask("search", query="zebras", k=9)[1]
    for path, body in (
        ("documents/get", {"ids": ["new3", "nobody", "d1"]}),
        ("documents/delete", {"where": "n >= 106"}),
        ("documents/delete", {"ids": ["new0", "nobody"]}),
    ):
        whole, sharded = both.ask(path, **body)
        assert sharded == whole
    change = {"where": "n >= 100", "set": {"seen": True}}
    changed = [each.patch("/v1/indexes/docs/documents", json=change) for each in (both.whole, both.sharded)]
    assert changed[0].json() == changed[1].json() == {"index": "docs", "updated": 5}
    body = {"query": "zebras", "where": "seen = true", "k": 20}
    assert both.ask("search", **body)[0] == both.ask("search", **body)[1]
    infos = [each.get("/v1/indexes/docs").json() for each in (both.whole, both.sharded)]
    same = ("name", "state", "documents", "passages", "dimensions", "bits", "model", "precision")
    assert [infos[0][name] for name in same] == [infos[1][name] for name in same]
    both.ask("documents/delete", where="n >= 100")


def test_a_dead_shard_is_named_or_missing_as_asked(both: Both, dead: int):
    path = "/v1/indexes/docs/search"
    refused = both.sharded.post(path, json={"query": "lions"})
    assert refused.status_code == 503 and refused.json()["code"] == "shard_unavailable"
    assert "shard 1 of the index gives no answer" in refused.json()["detail"]
    assert str(both.shards[1].service) not in refused.text and "/" not in refused.json()["detail"]
    whole = both.whole.post(path, json={"query": "lions", "k": 100}).json()["hits"]
    for explain in (False, True):
        body = {"query": "lions", "k": 100, "partial": True, "explain": explain}
        found = both.sharded.post(path, json=body).json()
        assert found["missing_shards"] == [1] and 0 < len(found["hits"]) < len(whole)
        scores = {hit["id"]: hit["score"] for hit in whole}
        assert all(hit["score"] == scores[hit["id"]] for hit in found["hits"])
    with Client(str(both.sharded.base_url), retries=0) as client:
        with pytest.raises(ServerError, match="shard 1"):
            client.search("docs", "lions")
        hits = client.search("docs", "lions", k=100, partial=True)
        assert hits.missing == {1: ""} and [hit.id for hit in hits] == [hit["id"] for hit in found["hits"]]
        explained = client.search("docs", "lions", k=100, partial=True, explain=True)
        assert isinstance(explained.hits, PartialHits) and explained.hits.missing == {1: ""}
    [told] = both.sharded.get("/v1/indexes").json()["data"]
    assert told["state"] == "incomplete" and "shard 1" in told["detail"]
    assert 'latebolt_indexes{state="incomplete"} 1.0' in both.sharded.get("/metrics").text
    assert both.sharded.get("/ready").status_code == 200


def test_nobody_is_missing_of_what_is_there(both: Both):
    whole, sharded = both.ask("search", query="lions", partial=True)
    assert whole == sharded and whole["missing_shards"] == []
    assert "missing_shards" not in both.ask("search", query="lions")[1]


def test_an_addition_that_some_have_committed_can_be_sent_again(both: Both):
    new = [{"id": f"again{i}", "text": "walruses", "metadata": {"n": 200}} for i in range(12)]
    both.shards[2].fault = LateboltError("gone")
    try:
        refused = both.sharded.post("/v1/indexes/docs/documents", json={"documents": new})
    finally:
        both.shards[2].fault = None
    assert refused.status_code == 503 and "Send the same again" in refused.json()["detail"]
    both.ask("documents", documents=new)
    whole, sharded = both.ask("search", query="walruses", k=50)
    assert whole == sharded
    both.ask("documents/delete", where="n = 200")


def test_a_full_disk_is_told_as_such(both: Both):
    for shard in both.shards:
        shard.fault = StorageFull("full")
    try:
        body = {"documents": [{"id": "x", "text": "a"}]}
        refused = both.sharded.post("/v1/indexes/docs/documents", json=body)
    finally:
        for shard in both.shards:
            shard.fault = None
    assert (refused.status_code, refused.json()["code"]) == (503, problem_of(StorageFull()).code)


def test_what_goes_by_one_folder_is_refused_with_the_way_out(both: Both):
    client, documents = both.sharded, {"documents": [{"id": "x", "text": "a"}]}
    for refused, way_out in (
        (client.post("/v1/indexes", json={"name": "more"}), "latebolt split"),
        (client.delete("/v1/indexes/docs"), "Deploy it without the index"),
        (client.post("/v1/indexes/docs/snapshot"), "latebolt backup"),
        (client.post("/v1/indexes/docs/documents?background=true", json=documents), "wait for each answer"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "sharded_server")
        assert way_out in refused.json()["detail"]
    for path in ("/v1/jobs", "/v1/snapshots"):
        assert client.get(path).json()["data"] == []
    assert client.get("/v1/jobs/x").json()["code"] == "job_not_found"
    assert client.delete("/v1/snapshots/docs/x").json()["code"] == "snapshot_not_found"


def test_an_index_of_another_model_is_refused(tmp_path: Path):
    Index.create(tmp_path / "i", None, dim=32).close()
    split(tmp_path / "i", tmp_path / "set", 2)
    shards = [Shard(shard_folder(tmp_path / "set", number)) for number in range(2)]
    with serving(tmp_path / "none", holdings=sharded_holdings({"odd": shards}, 5.0)) as running:
        refused = running.client.post("/v1/indexes/odd/search", json={"query": "a"})
        assert (refused.status_code, refused.json()["code"]) == (409, "model_mismatch")
        assert running.client.get("/v1/indexes").json()["data"][0]["state"] == "other_model"
