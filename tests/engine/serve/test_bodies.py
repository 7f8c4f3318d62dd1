"""Bodies: in pieces as in one, packed, too many at once, with marks and halves of characters in them."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Running, loop_seconds, process, serving, wait_until

from latebolt.checks import clean_text
from latebolt.serve.held_bodies import FREE, Budget, Full, Lease
from latebolt.serve.http import json_pieces, requests
from latebolt.serve.http.json_pieces import TooDeep, TooMany, outline
from latebolt.serve.http.requests import Reader
from latebolt.serve.http.schemas import (
    DeleteRequest,
    DocumentsRequest,
    RerankRequest,
    SearchRequest,
    VectorsRequest,
)
from latebolt.serve.problems import Problem
from latebolt.serve.settings import Settings

JSON_HEADERS = {"Content-Type": "application/json"}
TEXT = st.text(alphabet='[]{},:"\\a\n\u00e9\ud83d\ude00 ', max_size=12)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
BODIES = st.dictionaries(
    st.sampled_from(["documents", "ids", "where", "more"]), VALUES | st.lists(VALUES), max_size=4
)


def put_together(body: bytes, piece: int) -> Any:
    """What a body says, read in pieces."""
    found = outline(body, 1000, 10**6, piece)
    content = msgspec.json.decode(found.rest)
    if not isinstance(content, dict):
        return content
    for name, value in content.items():
        if (cut := found.pieces_of(value)) is not None:
            parts = [msgspec.json.decode(b"[%b]" % body[a:b]) for a, b, _ in cut]
            content[name] = [entry for part in parts for entry in part]
    return content


@settings(max_examples=300)
@given(BODIES | VALUES, st.integers(0, 40), st.integers(1, 70), st.booleans())
def test_a_body_says_in_pieces_what_it_says_in_one(value: Any, piece: int, chunk: int, ascii_: bool):
    body = json.dumps(value, ensure_ascii=ascii_, indent=chunk % 3 or None).encode("utf-8", "replace")
    try:
        expected = msgspec.json.decode(body)
    except msgspec.DecodeError:  # halves of characters, which are mended elsewhere
        return
    with pytest.MonkeyPatch.context() as small:
        small.setattr(json_pieces, "_CHUNK", chunk)
        small.setattr(json_pieces, "_PIECE_VALUES", 1 + chunk % 5)
        assert put_together(body, piece) == expected


@settings(max_examples=400)
@given(st.text(alphabet='[]{},:"\\a1 ', max_size=40), st.integers(1, 12))
def test_what_is_no_json_in_one_is_none_in_pieces(inner: str, piece: int):
    begun = b'{"documents": [%b' % inner.encode()
    for body in (begun, begun + b"]}"):
        with pytest.MonkeyPatch.context() as small:
            small.setattr(requests, "_LARGE", 0)
            small.setattr(requests, "outline", lambda *args: outline(*args, piece))
            small.setattr(json_pieces, "_CHUNK", 7)
            try:
                expected: Any = msgspec.json.decode(body).get("documents")
            except msgspec.DecodeError:
                expected = Problem
            try:
                got: Any = READER._read_pieces(DeleteRequest, body.replace(b"documents", b"ids")).ids
            except Problem as error:
                got = Problem if error.faults[0]["type"] == "json_invalid" else expected
            assert got == expected


READER = Reader(Settings(max_depth=8, max_items=1000, max_documents=1000))


def read(model: type[Any], body: bytes, large: bool) -> Any:
    """The request of a body, or what is told of it, read on one road or the other."""
    with pytest.MonkeyPatch.context() as chosen:
        chosen.setattr(requests, "_LARGE", 0 if large else 1 << 40)
        chosen.setattr(requests, "outline", lambda *args: outline(*args, 20))
        chosen.setattr(json_pieces, "_PIECE_VALUES", 3)
        try:
            return asyncio.run(READER.read(model, b"application/json", body))
        except Problem as problem:
            return problem.status, problem.detail, problem.faults


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (
            DocumentsRequest,
            {"documents": [{"id": f"d{i}", "text": "t", "metadata": {"a": [i]}} for i in range(9)]},
        ),
        (
            DocumentsRequest,
            {"documents": [{"id": f"d{i}", "text": "t", "year": i, "b": None} for i in range(9)]},
        ),
        (DocumentsRequest, {"documents": [*({"id": f"d{i}", "text": "t"} for i in range(9)), {"id": 3}]}),
        (DocumentsRequest, {"documents": [{"id": "a", "text": "t"}] * 9, "document": 1}),
        (DocumentsRequest, {"documents": []}),
        (DocumentsRequest, {"documents": {"a": [1] * 30}}),
        (DocumentsRequest, [[1] * 30]),
        (DeleteRequest, {"ids": [f"d{i}" for i in range(30)]}),
        (
            RerankRequest,
            {"query": "a", "documents": [*(f"d{i}" for i in range(30)), {"text": "b"}], "more": [1] * 30},
        ),
        (RerankRequest, {"query": ["a"] * 30, "documents": ["a"]}),
        (VectorsRequest, {"input": [f"d{i}" for i in range(30)], "embedding_type": ["float"] * 30}),
        (VectorsRequest, {"input": "one text that is longer than a piece"}),
        (VectorsRequest, {"input": [*"abcdefghijklmnopqrstuvwx", 1]}),
        (SearchRequest, {"query": "a", "where": {"n": {"in": list(range(40))}}}),
        (SearchRequest, {"query": "a", "filter": {"n": 1}, "top_k": 3}),
    ],
)
def test_large_bodies_are_read_as_small_ones(model: type[Any], content: Any):
    body = json.dumps(content).encode()
    assert read(model, body, large=True) == read(model, body, large=False)


def test_nothing_is_kept_of_names_that_clients_make_up():
    read(RerankRequest, b'{"query": "a", "documents": ["a", "b", "c", "d", "e", "f"]}', large=True)
    kept = requests._adapter_of.cache_info().currsize
    for i in range(5):
        body = {"query": "a", "documents": ["d"], f"made up {i}": [1] * 30}
        assert isinstance(read(RerankRequest, json.dumps(body).encode(), large=True), RerankRequest)
    assert requests._adapter_of.cache_info().currsize == kept


def test_limits_of_what_is_read_in_pieces():
    for body, error in [
        (b"[" * 40, TooDeep),
        (b'{"a":[' + b"1," * 200_000 + b"1]}", TooMany),
        (b'{"a":[[' + b"1," * 200_000 + b"1],2]}", TooMany),
        (b'{"a":{"b":[' + b"1," * 200_000 + b"1]}}", TooMany),
        (b"{" + b'"a":[],' * 200_000 + b"}", TooMany),
        (b"[],[]," * 200_000, TooMany),
    ]:
        with pytest.raises(error):
            outline(body, 32, 1000)
    assert outline(b'{"a":[' + b"1,2," * 50_000 + b"1]}", 32, 200_000).lists


def post(client: httpx.Client, body: bytes, path: str = "/v1/rerank", **headers: str) -> httpx.Response:
    return client.post(path, content=body, headers={**JSON_HEADERS, **headers})


QUICK = json.dumps({"query": "cats", "documents": ["bread", "a cat"], "top_n": 1}).encode()


def test_a_mark_before_the_body_is_skipped(client: httpx.Client, index: str):
    assert post(client, b"\xef\xbb\xbf" + QUICK).json() == post(client, QUICK).json()
    large = json.dumps({"query": "cats", "documents": ["many words " * 9000, "a cat"], "top_n": 1}).encode()
    assert post(client, b"\xef\xbb\xbf" + large).json()["results"][0]["index"] == 1


def test_halves_of_characters_are_the_librarys(client: httpx.Client):
    half = "cheap \ud83d flights"
    documents = [{"id": half, "text": half, "metadata": {half: half}, "more": [half]}]
    client.post("/v1/indexes", json={"name": "halves"})
    added = post(client, json.dumps({"documents": documents}).encode(), "/v1/indexes/halves/documents")
    assert added.json()["ids"] == [clean_text(half)]
    for where in ({clean_text(half): half}, {"more": half}):
        asked = json.dumps({"query": half, "where": where if "more" not in where else None}).encode()
        [hit] = post(client, asked, "/v1/indexes/halves/search").json()["hits"]
        assert (hit["id"], hit["text"]) == (clean_text(half), clean_text(half))
        assert hit["metadata"] == {clean_text(half): clean_text(half), "more": [clean_text(half)]}
    ranked = post(client, json.dumps({"query": half, "documents": [half]}).encode())
    assert ranked.json()["results"][0]["document"]["text"] == clean_text(half)
    client.delete("/v1/indexes/halves")


@given(st.text(alphabet='\ud83d\ude00\udbff\udc00\\u"da0\u20ac', max_size=30))
def test_escapes_are_mended_as_texts_are(text: str):
    assert requests._parsed(json.dumps([text]).encode()) == [clean_text(text)]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "identity"])
def test_packed_bodies(client: httpx.Client, encoding: str):
    pack = {"deflate": zlib.compress, "identity": bytes}.get(encoding, gzip.compress)
    answer = post(client, pack(QUICK), **{"Content-Encoding": encoding})
    assert answer.json() == post(client, QUICK).json()


def test_packed_bodies_that_are_none(client: httpx.Client):
    packed = gzip.compress(QUICK)
    two = gzip.compress(QUICK[:20]) + gzip.compress(QUICK[20:])
    assert post(client, two, **{"Content-Encoding": "gzip"}).status_code == 200
    for body in (QUICK, packed[:-4], packed + b"more", packed[:12] + b"\xff" * 9, zlib.compress(QUICK)):
        refused = post(client, body, **{"Content-Encoding": "gzip"})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_encoding")
    for unknown in ("br", "zstd", "gzip, gzip", "gzip, br", "none"):
        refused = post(client, packed, **{"Content-Encoding": unknown})
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
        assert refused.headers["accept-encoding"] == "gzip, deflate"


def test_the_limit_counts_unpacked_bytes(tmp_path: Path):
    with serving(tmp_path, max_body_bytes=100_000) as running:
        bomb = gzip.compress(b"[" + b" " * 200_000_000, 9)
        assert len(bomb) > 100_000 * 0.5
        for packed in (gzip.compress(b"[" + b" " * 200_000), zlib.compress(bomb)[:90_000]):
            start = time.perf_counter()
            encoding = "gzip" if packed[:2] == b"\x1f\x8b" else "deflate"
            refused = post(running.client, packed, **{"Content-Encoding": encoding})
            assert refused.status_code in (400, 413)
            assert time.perf_counter() - start < 2
        assert running.server.service.is_ready


def test_a_lease_is_given_back_by_its_last_user():
    budget = Budget(1000)
    one, two, small = Lease(budget), Lease(budget), Lease(budget)
    one.grow(FREE + 900)
    small.grow(FREE)
    with pytest.raises(Full):
        two.grow(FREE + 101)
    one.hold()
    one.let_go()
    assert budget.held == 900
    one.let_go()
    two.let_go()
    assert budget.held == 0


def test_more_bodies_than_may_be_held_are_refused_and_small_ones_are_not(tmp_path: Path):
    # Some of it takes its time, and most only room: a word without end is one token.
    texts = ["many words " * 40] * 150 + ["x" * 440] * 350
    large = json.dumps({"query": "a", "documents": texts}).encode()
    with serving(tmp_path, held_bytes=300_000, max_body_bytes=300_000, cache_mb=0, timeout=120) as running:
        budget = running.server.service.budget
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(
                httpx.post(f"{running.url}/v1/rerank", content=large, headers=JSON_HEADERS, timeout=120)
            )

        first = threading.Thread(target=ask)
        first.start()
        wait_until(lambda: budget.held == len(large) - FREE)
        refused = post(running.client, large)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert budget.held == len(large) - FREE
        assert post(running.client, QUICK).status_code == 200
        first.join()
        assert answers[0].status_code == 200
        wait_until(lambda: budget.held == 0)
        assert post(running.client, large[:-1]).status_code == 422
        wait_until(lambda: budget.held == 0)


def test_bodies_of_clients_that_leave_are_given_back(running: Running):
    budget = running.server.service.budget
    for sent in (
        b'{"query": "' + b"a" * 200_000,
        b'{"query": "a", "documents": ["' + b"word " * 40_000 + b'"]}',
    ):
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            length = len(sent) + (sent[-1:] != b"}")
            head = "POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % length + sent)
            time.sleep(0.2)
    wait_until(lambda: budget.held == 0)


def test_health_is_answered_beside_a_large_body(tmp_path: Path):
    documents = [
        {"id": f"b{i}", "text": "x" * 500, "metadata": {"a": [1, 2, 3], "b": {"c": "d"}}}
        for i in range(49_000)
    ]
    body, answers = json.dumps({"documents": documents}).encode(), []
    assert len(body) > 28_000_000
    with (
        process(tmp_path) as (server, client),
        httpx.Client(base_url=client.base_url, timeout=client.timeout) as other,
    ):
        send = threading.Thread(
            target=lambda: answers.append(post(client, body, "/v1/indexes/none/documents"))
        )
        send.start()
        work = []
        while send.is_alive():
            start = loop_seconds(server)
            assert other.get("/health").status_code == 200
            work.append(loop_seconds(server) - start)
        assert answers[0].status_code == 404
    # By the event loop's own work between a question and its answer: how long it takes is the machine's
    # affair, and another thread, which reads the body, works while the loop waits for a core.
    assert max(work) < 0.1
