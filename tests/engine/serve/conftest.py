"""Fixtures: one server for all tests that need nothing of their own of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from servers import Running, serving


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("serve"), aliases="jina-colbert-v2") as each:
        yield each


@pytest.fixture
def client(running: Running) -> httpx.Client:
    return running.client


@pytest.fixture
def index(client: httpx.Client) -> Iterator[str]:
    """The path of an index with three documents."""
    path = "/v1/indexes/cities"
    assert client.post("/v1/indexes", json={"name": "cities"}).status_code == 201
    documents = [
        {"id": "paris", "text": "Paris is the capital of France.", "metadata": {"since": 987}},
        {"id": "berlin", "text": "Berlin is the capital of Germany.", "metadata": {"since": 1990}},
        {"id": "rome", "text": "Rome is the capital of Italy.", "metadata": {"since": 1871}},
    ]
    assert client.post(f"{path}/documents", json={"documents": documents}).status_code == 200
    yield path
    client.delete(path)
