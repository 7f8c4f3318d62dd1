"""Depth of nesting, rights and settings: what is decided without a server."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.cli import run
from latebolt.cli.serve import _RAY, serve_command
from latebolt.errors import InvalidInput
from latebolt.serve import process
from latebolt.serve.http.guard import right_needed
from latebolt.serve.http.limits import depth_of
from latebolt.serve.settings import Settings, variable

JSON = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(alphabet='[]{}"\\a')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=3),
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(JSON)
def test_depth_is_that_of_the_parsed_value(value: object):
    assert depth_of(json.dumps(value).encode(), enough=0) == depth(value)


@pytest.mark.parametrize("body", [b'"\\' * 500_000, b'["' * 500_000, b"[{" * 500_000, b'"' * 1_000_001])
def test_depth_of_malice_is_found_in_time(body: bytes):
    start = time.thread_time()
    depth_of(body, enough=0)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/health", None),
        ("GET", "/", None),
        ("GET", "/metrics", "read"),
        ("GET", "/metrics.json", "read"),
        ("GET", "/page/page.js", None),
        ("POST", "/v1/rerank", "read"),
        ("POST", "/v1/rerank/", "read"),
        ("POST", "/v1/indexes/a/search/", "read"),
        ("POST", "/v1/indexes/a/search", "read"),
        ("GET", "/v1/indexes/a", "read"),
        ("POST", "/v1/indexes", "write"),
        ("DELETE", "/v1/indexes/search", "write"),
        ("POST", "/v1/indexes/a/documents", "write"),
        ("PATCH", "/v1/indexes/a/documents", "write"),
        ("POST", "/v1/indexes/a/documents/get", "read"),
        ("POST", "/v1/indexes/a/documents/get/more", "write"),
        ("POST", "/v1/indexes/search/documents", "write"),
        ("OPTIONS", "/v1/rerank", None),
    ],
)
def test_the_right_that_a_request_needs(method: str, path: str, right: str | None):
    assert right_needed(method, path) == right


def test_every_setting_is_an_option_and_a_variable(monkeypatch: pytest.MonkeyPatch):
    seen: list[Settings] = []
    monkeypatch.setattr(process, "run", lambda settings: seen.append(settings) or 0)
    monkeypatch.setenv("LATEBOLT_SERVE_PORT", "1")
    monkeypatch.setenv("LATEBOLT_SERVE_ANY_MODEL", "true")
    monkeypatch.setenv("LATEBOLT_SERVE_TIMEOUT", "2.5")
    assert run(["serve", "--timeout", "3", "--cache-mb", "0"]) == 0
    assert seen == [Settings(port=1, any_model=True, timeout=3.0, cache_mb=0)]
    options = {parameter.name: parameter.envvar for parameter in serve_command.params}
    of_ray = {name for name, envvar in options.items() if envvar is None}
    assert of_ray == {"on", *(name for name, *_ in _RAY)}
    assert {name: envvar for name, envvar in options.items() if envvar} == {
        field.name: variable(field.name) for field in dataclasses.fields(Settings)
    }


def test_a_setting_out_of_range_is_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(InvalidInput, match="--queue-requests should be at least 1"):
        Settings(queue_requests=0)
    for port in ("99999", "65536", "-1"):
        assert run(["serve", "--port", port]) == 2
        assert "--port should be at" in capsys.readouterr().err
    assert Settings(port=65535).port == 65535


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docs=/my data/index", {"docs": "/my data/index"}),
        ("docs=/my data/a  more=/b", {"docs": "/my data/a", "more": "/b"}),
        ("docs=/my data/a\nmore=/b c\n", {"docs": "/my data/a", "more": "/b c"}),
        ("docs=/a=b", {"docs": "/a=b"}),
    ],
)
def test_folders_with_spaces_in_the_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: dict[str, str]
):
    seen: list[Settings] = []
    monkeypatch.setattr(process, "run", lambda settings: seen.append(settings) or 0)
    monkeypatch.setenv("LATEBOLT_SERVE_INDEX", text)
    assert run(["serve"]) == 0
    assert {name: str(folder) for name, folder in seen[0].given_indexes.items()} == expected


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.b", False),
    ],
)
def test_loopback(host: str, loopback: bool):
    assert Settings(host=host).is_loopback == loopback
