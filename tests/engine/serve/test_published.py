"""A server with an index that is given by its URI: it answers, follows what is published, takes no writes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from servers import serving, wait_until

from latebolt import Encoder, Index
from latebolt.errors import InvalidInput
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.publish import publish
from latebolt.objects.remote_store import RemoteStore
from latebolt.serve.keys import Keys
from latebolt.serve.settings import Settings
from latebolt.serve.state.service import Service


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))


def test_an_index_that_is_given_by_its_uri(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    always = property(lambda store: 0.0, lambda store, every: None)
    monkeypatch.setattr(RemoteStore, "_every", always, raising=False)  # a look with each search
    uri, path = (tmp_path / "published").as_uri(), "/v1/indexes/cities"
    index = Index.create(tmp_path / "mine", encoder)
    index.add(["Paris is in France.", "Berlin is in Germany."], ["p", "b"])
    publish(index.path, ObjectStore(uri))
    with serving(tmp_path / "data", index=(f"cities={uri}",)) as running:
        client = running.client

        def found(query: str) -> list[str]:
            answer = client.post(f"{path}/search", json={"query": query, "k": 1}).json()
            return [each["id"] for each in answer["hits"]]

        assert [each["name"] for each in client.get("/v1/indexes").json()["data"]] == ["cities"]
        assert client.get(path).json()["state"] == "ready" and client.get(path).json()["documents"] == 2
        assert found("Germany") == ["b"]
        documents = {"documents": [{"id": "x", "text": "Rome is in Italy."}]}
        for refused in (
            client.post(f"{path}/documents", json=documents),
            client.post(f"{path}/documents/delete", json={"ids": ["b"]}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (409, "index_read_only"), refused.text
            assert "published" in refused.json()["detail"] and str(tmp_path) not in refused.text
        assert client.delete(path).json()["code"] == "index_given"
        assert client.post("/v1/indexes", json={"name": "cities"}).json()["code"] == "index_exists"
        assert client.post(f"{path}/snapshot", json={"name": "one"}).json()["documents"] == 2
        index.add(["Rome is in Italy."], ["r"])
        publish(index.path, ObjectStore(uri))
        wait_until(lambda: found("Italy") == ["r"])


def test_a_uri_that_cannot_be_opened_is_named_at_the_start(tmp_path: Path):
    gone = (tmp_path / "gone").as_uri()
    for uri, said in ((gone, "no index is published"), ("nonsense://x/y", "nonsense")):
        service = Service(Settings(data=str(tmp_path), index=(f"gone={uri}",)), Keys("", None))
        failed = threading.Event()
        service.start(failed.set)
        assert failed.wait(60)
        assert "--index gone" in str(service.failure) and said in str(service.failure)
        service.close()
    with pytest.raises(InvalidInput) as told:
        Settings(index=("Wrong=sftp://somebody:hidden@host/x",))
    assert "hidden" not in str(told.value)
