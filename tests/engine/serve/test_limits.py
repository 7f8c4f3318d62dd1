"""Depth of nesting, keys and settings: what is decided without a server."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latebolt.cli import run
from latebolt.cli.serve import serve_command
from latebolt.errors import InvalidInput
from latebolt.serve import process
from latebolt.serve.http.guard import right_needed
from latebolt.serve.http.limits import depth_of
from latebolt.serve.keys import Keys, parse
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


def test_keys_of_a_text():
    keys = Keys("", None)
    assert not keys.required
    keys = Keys("reader read\r\n writer\twrite \n# a comment\n\n  # another\nplain", None)
    assert keys.required
    for header, right in [
        ("Bearer reader", "read"),
        ("bearer writer", "write"),
        ("Bearer plain", "write"),
        ("Bearer wrong", None),
        ("Basic writer", None),
        ("Bearer", None),
        ("", None),
    ]:
        assert keys.right_of(header) == right


@pytest.mark.parametrize(
    "line",
    ["secretkëy read", "secret\x0bkey", "secret\x7fkey", "secret\u2028key", "secret\tkey", "read", "write"],
)
def test_a_line_that_does_not_fit_is_told_without_the_key(line: str):
    with pytest.raises(InvalidInput, match="line 3") as refused:
        parse(f"# a comment\ngood\n{line}\nmore", "keys.txt")
    assert "secret" not in str(refused.value)


def test_a_key_with_two_rights_is_refused():
    with pytest.raises(InvalidInput, match="line 2"):
        parse("secretkey read\nsecretkey", "keys.txt")
    assert len(parse("secretkey read\nsecretkey read", "keys.txt")) == 1


PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
SECRETS = st.text(PRINTABLE, min_size=1, max_size=80).filter(
    lambda key: key == key.strip() and key[0] != "#" and key.split(" ")[-1] not in ("read", "write")
)


@given(
    st.lists(st.tuples(SECRETS, st.sampled_from(["", " read", " write", "\tread"])), min_size=1, max_size=5)
)
@example([(PRINTABLE[1:].replace("#", "", 1) + "#", " read")])
@example([("Tr#4vW9,q!mZx82", " read"), ("s3cr#t", ""), ("a, b # c", " write"), ("read me", " read")])
def test_a_secret_of_any_printable_characters_is_one_key(lines: list[tuple[str, str]]):
    lines = list(dict(lines).items())
    text = "\ufeff# keys\n" + "\n".join(key + right for key, right in lines)
    keys = Keys(text, None)
    assert len(parse(text, "keys")) == len(lines)
    for key, right in lines:
        assert keys.right_of(f"Bearer {key}") == (right.strip() or "write")
    known = {key for key, _ in lines}
    parts = {part for key in known for cut in ",#; " for part in key.split(cut) if part.strip() == part != ""}
    for part in parts - known:
        assert keys.right_of(f"Bearer {part}") is None


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = Keys("", file)
    assert keys.right_of("Bearer old") == "write"
    file.write_text("newer read\n")
    assert keys.right_of("Bearer old") is None
    assert keys.right_of("Bearer newer") == "read"
    file.write_text("")  # half written: the keys in force stay
    assert keys.right_of("Bearer newer") == "read"
    file.unlink()
    assert keys.right_of("Bearer newer") == "read"
    with pytest.raises(InvalidInput, match="cannot be read"):
        Keys("", tmp_path / "none")


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
    assert options == {field.name: variable(field.name) for field in dataclasses.fields(Settings)}


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
