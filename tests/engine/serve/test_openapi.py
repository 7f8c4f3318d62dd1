"""The description at /openapi.json is true: schemathesis makes requests from it and looks for lies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from servers import Running, serving

OPERATIONS = [
    ("POST", "/v1/multi-vector"),
    ("POST", "/v1/multi-embeddings"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("GET", "/v1/models"),
    ("POST", "/v1/indexes"),
    ("GET", "/v1/indexes"),
    ("GET", "/v1/indexes/{name}"),
    ("DELETE", "/v1/indexes/{name}"),
    ("POST", "/v1/indexes/{name}/documents"),
    ("PATCH", "/v1/indexes/{name}/documents"),
    ("POST", "/v1/indexes/{name}/documents/delete"),
    ("POST", "/v1/indexes/{name}/documents/get"),
    ("POST", "/v1/indexes/{name}/search"),
    ("POST", "/v1/indexes/{name}/snapshot"),
    ("GET", "/v1/snapshots"),
    ("DELETE", "/v1/snapshots/{name}/{snapshot}"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("DELETE", "/v1/jobs/{id}"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/metrics.json"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of its own, since indexes of all kinds are left in it."""
    with serving(tmp_path_factory.mktemp("openapi"), aliases="jina-colbert-v2") as each:
        yield each


@pytest.fixture(scope="module")
def schemathesis():
    return pytest.importorskip("schemathesis")  # imported here, as every worker imports this file


@pytest.fixture(scope="module")
def described(schemathesis, running: Running):
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json")


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_description_is_true(schemathesis, described, index: str, method: str, path: str, mode: str):
    assert {each.value for each in schemathesis.GenerationMode} == {"positive", "negative"}
    operation = described[path][method]

    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def hold(case):
        assume(not says_two_things(case.body) and not names_one_twice(case.body))
        case.call_and_validate(timeout=30)

    with contextlib.suppress(Unsatisfiable):  # nothing about it could be wrong
        hold()


def says_two_things(body: object) -> bool:
    """Whether a document has a field beside "metadata" and in it, which no schema can refuse."""
    documents = body.get("documents") if isinstance(body, dict) else None
    return any(
        isinstance(inner := each.get("metadata"), dict) and each.keys() & inner.keys()
        for each in (documents if isinstance(documents, list) else [])
        if isinstance(each, dict)
    )


def names_one_twice(body: object) -> bool:
    """Whether two documents have one id, which no schema can refuse."""
    documents = body.get("documents") if isinstance(body, dict) else None
    ids = [
        str(each["id"])
        for each in (documents if isinstance(documents, list) else [])
        if isinstance(each, dict) and each.get("id") is not None
    ]
    return len(ids) > len(set(ids))


def test_every_operation_is_held_to_its_description(client: httpx.Client):
    paths = client.get("/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == set(OPERATIONS)


def test_the_description_names_what_this_server_has(client: httpx.Client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["VectorsRequest"]["properties"]["dimensions"]["anyOf"][0]["enum"] == [128, 96, 64]
    assert "jina-colbert-v2" in schemas["RerankRequest"]["properties"]["model"]["anyOf"][0]["enum"]
    assert schemas["RerankRequest"]["properties"]["documents"]["maxItems"] == 2048


def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(client: httpx.Client):
    assert client.put("/v1/indexes", json={}).headers["allow"] == "GET, HEAD, POST"
    assert client.put("/v1/indexes/a", json={}).headers["allow"] == "DELETE, GET, HEAD"


def test_the_examples_work_one_after_the_other(client: httpx.Client):
    description = client.get("/openapi.json").json()
    schemas, paths = description["components"]["schemas"], description["paths"]
    asked = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                asked[method, path] = schemas[body["$ref"].rsplit("/", 1)[1]]["examples"]
    order = [
        ("post", "/v1/indexes"),
        ("post", "/v1/indexes/{name}/documents"),
        ("post", "/v1/indexes/{name}/search"),
        ("post", "/v1/indexes/{name}/documents/get"),
        ("patch", "/v1/indexes/{name}/documents"),
        ("post", "/v1/indexes/{name}/documents/delete"),
    ]
    [made] = asked["post", "/v1/indexes"]
    client.delete(f"/v1/indexes/{made['name']}")  # the tests above send examples, too
    answers = {}
    for method, path in sorted(asked, key=lambda each: order.index(each) if each in order else -1):
        assert asked[method, path], path
        for example in asked[method, path]:
            answer = client.request(method, path.replace("{name}", made["name"]), json=example)
            assert answer.is_success, answer.text
            answers.setdefault((method, path), []).append(answer.json())
    assert client.delete(f"/v1/indexes/{made['name']}").status_code == 204
    late, words = answers["post", "/v1/indexes/{name}/search"]
    assert late["hits"][0]["id"] == "passport" and [hit["id"] for hit in words["hits"]] == ["passport"]
    assert [each["updated"] for each in answers["patch", "/v1/indexes/{name}/documents"]] == [1, 1]
    assert [each["deleted"] for each in answers["post", "/v1/indexes/{name}/documents/delete"]] == [1, 0]
