"""The description at /openapi.json is true: schemathesis makes requests from it and looks for lies."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, settings
from servers import Running

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture
def described(running: Running, index: str):
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json")


api = schemathesis.pytest.from_fixture("described")


@api.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_the_description_is_true(case):
    case.call_and_validate(timeout=30)


def test_the_description_names_what_this_server_has(client: httpx.Client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["VectorsRequest"]["properties"]["dimensions"]["anyOf"][0]["enum"] == [128, 96, 64]
    assert "jina-colbert-v2" in schemas["RerankRequest"]["properties"]["model"]["anyOf"][0]["enum"]
    assert schemas["RerankRequest"]["properties"]["documents"]["maxItems"] == 2048
