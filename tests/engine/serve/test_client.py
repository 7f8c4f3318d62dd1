"""latebolt.client: against the real server, and against one that answers as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import inspect
import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Running, serving

from latebolt import Encoder, Hit
from latebolt.client import (
    AsyncClient,
    Client,
    Document,
    Job,
    RequestInvalid,
    ServerError,
    ServerUnreachable,
    reading,
    waiting,
)
from latebolt.client.calls import base_url, batches
from latebolt.errors import InvalidInput
from readme_snippets import PROJECT, snippets

KEY = "a key, with spaces"
READER = "a-key-that-may-read"
CITIES = [
    {"id": "paris", "text": "Paris is the capital of France.", "metadata": {"since": 987}},
    {"id": "berlin", "text": "Berlin is the capital of Germany.", "since": 1990},
    {"id": "rome", "text": "Rome is the capital of Italy."},
]


class Waited:
    """`AsyncClient` called as `Client` is, so that one test holds both to the same."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *a, **k: self._loop.run_until_complete(method(*a, **k))

    def __enter__(self) -> Waited:
        self._loop.run_until_complete(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._client.__aexit__())
        self._loop.close()


@pytest.fixture(params=[Client, Waited], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("client"), keys=f"{KEY}\n{READER} read") as running:
        yield running


@pytest.fixture
def cities(guarded: Running) -> Iterator[str]:
    with Client(guarded.url, KEY) as client:
        client.create_index("cities", bits=4)
        client.add_documents("cities", CITIES)
        yield "cities"
        client.delete_index("cities")


def test_an_index_is_opened_or_made(guarded: Running, make: Any):
    settings = {"passage_tokens": 40, "passage_overlap": 60, "pool_factor": 2, "max_vectors": 30}
    with make(guarded.url, KEY) as client:
        for documents in (0, 1):
            info = client.open_or_create_index("kept", **settings)
            assert (info.documents, info.bits, info.passage_tokens, info.passage_overlap) == (
                documents, 2, 40, 39
            )  # fmt: skip
            assert (info.pool_factor, info.max_vectors) == (2, 30)
            client.add_documents("kept", CITIES[:1])
        with pytest.raises(InvalidInput, match="kept: has pool_factor 2; pool_factor=1 fits only a new"):
            client.open_or_create_index("kept", pool_factor=1)
        with pytest.raises(InvalidInput, match="kept: has bits 2; bits=4 fits only a new index"):
            client.open_or_create_index("kept", bits=4)
        with pytest.raises(InvalidInput, match="kept: has dimensions 128; dimensions=64"):
            client.open_or_create_index("kept", dimensions=64)
        with make(guarded.url, READER) as reader:
            assert reader.open_or_create_index("kept").documents == 1
            with pytest.raises(ServerError, match="403"):
                reader.open_or_create_index("new")
        client.delete_index("kept")


def test_many_open_or_make_one_index(guarded: Running):
    with Client(guarded.url, KEY) as client, ThreadPoolExecutor(8) as pool:
        for n in range(5):
            found = list(pool.map(client.open_or_create_index, [f"race-{n}"] * 8))
            assert {info.name for info in found} == {f"race-{n}"}
            client.delete_index(f"race-{n}")


def test_an_index_from_its_making_to_its_end(guarded: Running, make: Any):
    with make(guarded.url + "/", KEY) as client:
        assert client.health() == "ok" and client.is_ready() is True
        model = client.model()
        assert model.id and 128 in model.dimensions
        made = client.create_index("notes", bits=4, dimensions=64, passage_tokens=40, max_vectors=50)
        assert (made.pool_factor, made.max_vectors) == (1, 50)
        assert (made.name, made.bits, made.dimensions, made.documents) == ("notes", 4, 64, 0)
        assert made.passage_tokens == 40
        added = client.add_documents("notes", iter(CITIES), batch_documents=2)
        assert added.added == 3 and added.ids == ["paris", "berlin", "rome"] and not added.unread_script
        assert [info.name for info in client.list_indexes()] == ["notes"]
        assert client.index_info("notes").documents == 3
        [hit] = client.search("notes", "what is the German capital", k=1)
        assert isinstance(hit, Hit) and hit.id == "berlin" and hit.metadata == {"since": 1990}
        [hit] = client.search("notes", "capital", k=3, where="since < 1000", exhaustive=True)
        assert hit.id == "paris"
        [hit] = client.search("notes", "Italy", where={"not": {"since": {"exists": True}}}, mode="bm25")
        assert hit.id == "rome" and hit.metadata == {}
        paris = Document("paris", CITIES[0]["text"], {"since": 987})
        assert client.get_documents("notes", ["rome", "nobody", "paris"])[1:] == [None, paris]
        many = client.get_documents("notes", (f"n{n}" for n in range(2500)))
        assert many == [None] * 2500 and client.get_documents("notes", []) == []
        assert client.update_metadata("notes", ["rome", "nobody"], set={"n": 1, "m.x": None}) == 1
        assert client.update_metadata("notes", where={"n": 1}, unset=(n for n in ["m.x"])) == 1
        assert client.update_metadata("notes", iter(["rome", "paris"]), "n = 1", replace={"n": 2}) == 1
        assert client.get_documents("notes", ["rome", "paris"]) == [
            Document("rome", CITIES[2]["text"], {"n": 2}),
            paris,
        ]
        with pytest.raises(RequestInvalid, match="give ids or where"):
            client.update_metadata("notes", unset=["n"])
        with pytest.raises(InvalidInput, match="unset should be a list"):
            client.update_metadata("notes", ["rome"], unset="n")
        with pytest.raises(RequestInvalid, match="expected a value"):
            client.delete_documents("notes", where="n =")
        assert client.delete_documents("notes", ["paris"], where="n = 2") == 0
        assert client.delete_documents("notes", where="n = 2") == 1
        client.delete_index("notes")
        with pytest.raises(ServerError, match=r"no index of that name\. \(404 index_not_found") as told:
            client.search("notes", "a")
        assert told.value.status == 404 and told.value.code == "index_not_found" and told.value.request_id


def test_an_explained_search_is_the_librarys(guarded: Running, cities: str, make: Any):
    from latebolt import Index

    with make(guarded.url, KEY) as client:
        found = client.search(cities, "capital of Germany", k=2, explain=True)
    own = Index.open(guarded.server.service.settings.data_folder / "indexes" / cities)
    expected = own.search("capital of Germany", k=2, explain=True)
    assert found.hits == expected.hits
    assert [hit.confidence for hit in found.hits] == [hit.confidence for hit in expected.hits]
    assert [[m[:2] for m in each] for each in found.tokens] == [
        [m[:2] for m in each] for each in expected.tokens
    ]
    assert [[m[:2] for m in each] for each in found.alignments] == [
        [m[:2] for m in each] for each in expected.alignments
    ]
    assert [stage.name for stage in found.stages] == [stage.name for stage in expected.stages]
    assert found.roads == expected.roads
    assert found.record().keys() == expected.record().keys()


def test_rerank(guarded: Running, make: Any, encoder: Encoder):
    passages = [city["text"] for city in CITIES]
    with make(guarded.url, READER) as client:
        hits = client.rerank("German capital", passages, k=2)
    expected = encoder.rerank("German capital", passages, k=2)
    assert [(hit.id, hit.text) for hit in hits] == [(hit.id, hit.text) for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-4)
    told = [(hit.confidence, hit.weak) for hit in hits]
    assert told == [(pytest.approx(hit.confidence, abs=1e-3), hit.weak) for hit in expected]


def test_additions_in_the_background(guarded: Running, cities: str, make: Any):
    more = [{"id": f"n{n}", "text": f"note {n}"} for n in range(10)]
    with make(guarded.url, KEY) as client:
        added = client.add_documents(cities, more, background=True, batch_documents=2)
        assert added.added == 10 and client.index_info(cities).documents == 13
        jobs = [job for job in client.jobs() if job.index == cities and job.documents == 2]
        assert len(jobs) >= 5 and client.job(jobs[0].id).state == "done"
        assert client.wait(jobs[0], timeout=0) == jobs[0]
        assert client.cancel_job(jobs[0].id) == jobs[0]  # it had ended
        with pytest.raises(ServerError, match="job_not_found"):
            client.cancel_job("none")
        with pytest.raises(RequestInvalid, match=r"documents\.0\.id"):
            client.add_documents(cities, [{"id": "", "text": "a"}], background=True)


def test_what_the_server_says_is_said(guarded: Running, cities: str, make: Any):
    with make(guarded.url, KEY) as client:
        with pytest.raises(RequestInvalid, match=r"where: .*expected") as told:
            client.search(cities, "a", where="since >")
        assert isinstance(told.value, InvalidInput) and told.value.status == 422
        again = pickle.loads(pickle.dumps(told.value))
        assert str(again) == str(told.value) and again.status == 422
        with pytest.raises(ServerError, match="409 index_exists"):
            client.create_index(cities)
        with pytest.raises(RequestInvalid, match="1000"):
            client.search(cities, "a", k=1001)
        documents = [{"id": "a", "text": "a"}, {"id": "b", "text": "b"}, {"id": "c"}]
        with pytest.raises(RequestInvalid, match="text") as told:
            client.add_documents(cities, documents, batch_documents=2)
        assert told.value.__notes__ == ["2 documents are known to have been added before."]
    with make(guarded.url, READER) as client:
        assert client.search(cities, "Rome", k=1)[0].id == "rome"
        assert client.get_documents(cities, ["rome"])[0].text == CITIES[2]["text"]
        with pytest.raises(ServerError, match="may only read") as told:
            client.delete_index(cities)
        assert told.value.status == 403
    with make(guarded.url, "wrong") as client, pytest.raises(ServerError, match="not one of the server's"):
        client.list_indexes()
    with make(guarded.url) as client, pytest.raises(ServerError, match="a key is needed"):
        client.list_indexes()


def test_a_long_query_is_told(guarded: Running, cities: str, make: Any, caplog: pytest.LogCaptureFixture):
    with make(guarded.url, KEY) as client, caplog.at_level("WARNING", "latebolt"):
        client.search(cities, "capital " * 500)
    assert waiting.CUT_QUERY in caplog.text


def test_hits_say_where_they_stand(make: Any):
    hit = {"id": "a", "score": 1.0, "text": "b", "metadata": None, "place": {"page": 3}}
    with scripted(said(200, {"hits": [hit]})) as server, make(server.url) as client:
        [found] = client.search("a", "b")
        assert found.place == {"page": 3} and found.record() == hit


# Servers that answer as they are told to


class Script:
    """What a stand-in answers, one request after the other, and what it was asked."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes] | None]) -> None:
        self.answers, self.asked, self.headers, self.url = answers, [], [], ""


@contextlib.contextmanager
def scripted(*answers: tuple[int, dict[str, str], bytes] | None) -> Iterator[Script]:
    """A server with these answers; None breaks the connection. The last one is given again and again."""
    script = Script(list(answers))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            script.asked.append(f"{self.command} {self.path}")
            script.headers.append(dict(self.headers))
            said = script.answers[0] if len(script.answers) == 1 else script.answers.pop(0)
            if said is None:
                self.close_connection = True
                return
            status, headers, body = said
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield script
        server.shutdown()


def said(status: int, content: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, json.dumps(content).encode()


NONE_YET = said(200, {"object": "list", "data": []})
BUSY = said(429, {"detail": "too much.", "code": "overloaded", "request_id": "r1"}, **{"Retry-After": "0"})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "FIRST_PAUSE", 0.01)


def test_what_is_refused_for_now_is_sent_again(make: Any):
    stopping = said(503, {"detail": "the server is stopping.", "code": "stopping"})
    with scripted(BUSY, stopping, NONE_YET) as server, make(server.url) as client:
        assert client.list_indexes() == [] and len(server.asked) == 3
    with scripted(BUSY) as server, make(server.url, retries=2) as client:
        with pytest.raises(ServerError, match=r"too much\. \(429 overloaded, request r1\)") as told:
            client.list_indexes()
        assert len(server.asked) == 3 and told.value.retry_after == 0
    # What makes an index was refused, so nothing was made; it is sent again too.
    info = {
        "name": "a", "documents": 0, "passages": 0, "tokens": 0, "bytes": 0, "deleted": 0, "generation": 0,
        "dimensions": 8, "bits": 2, "of_a_later_version": 1,
    }  # fmt: skip
    with scripted(BUSY, said(201, info)) as server, make(server.url) as client:
        assert client.create_index("a").dimensions == 8


def test_the_server_says_how_long_to_wait(make: Any):
    later = said(503, {"detail": "the model is being loaded."}, **{"Retry-After": "1"})
    with scripted(later, NONE_YET) as server, make(server.url) as client:
        begin = time.monotonic()
        client.list_indexes()
        assert time.monotonic() - begin >= 1
    tomorrow = said(503, {"detail": "closed."}, **{"Retry-After": "86400"})
    with scripted(tomorrow) as server, make(server.url) as client:
        with pytest.raises(ServerError, match="closed") as told:
            client.list_indexes()
        assert len(server.asked) == 1 and told.value.retry_after == 86400


@pytest.mark.parametrize(
    "answer",
    [
        said(503, {"detail": "the server's disk is full.", "code": "storage_full"}),
        said(500, {"detail": "an error of ours."}),
        said(504, {"detail": "took too long."}),
        said(404, {"detail": "there is nothing at this path."}),
        (502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>"),
    ],
)
def test_what_no_waiting_mends_is_sent_once(make: Any, answer: tuple[int, dict[str, str], bytes]):
    with scripted(answer) as server, make(server.url) as client:
        with pytest.raises(ServerError) as told:
            client.search("a", "b")
        assert len(server.asked) == 1 and told.value.status == answer[0] and server.url in str(told.value)


def test_a_lost_answer_is_asked_for_again_unless_that_changes_something(make: Any):
    with scripted(None, NONE_YET) as server, make(server.url) as client:
        assert client.list_indexes() == [] and len(server.asked) == 2
    added = said(200, {"index": "a", "added": 1, "truncated": 0, "unread_script": False, "ids": ["b"]})
    with scripted(None, added) as server, make(server.url) as client:
        assert client.add_documents("a", [{"id": "b", "text": "c"}]).ids == ["b"]
    for method in ("create_index", "delete_index"):
        with scripted(None) as server, make(server.url) as client:
            with pytest.raises(ServerUnreachable, match="cannot be reached"):
                getattr(client, method)("a")
            assert len(server.asked) == 1


def test_a_server_that_is_not_there(make: Any):
    with make("http://127.0.0.1:9", retries=2) as client:
        assert client.is_ready() is False
        with pytest.raises(ServerUnreachable, match=r":9/v1/indexes: the server cannot be reached"):
            client.list_indexes()


def test_an_answer_that_takes_too_long_is_not_waited_for_twice(make: Any):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        make(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5) as client,
    ):
        with pytest.raises(ServerUnreachable, match=r"no answer within 0\.5 s"):
            client.list_indexes()
        silent.settimeout(0.5)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):  # nobody came again
            silent.accept()


def test_what_is_no_server_of_ours(make: Any):
    with (
        scripted((200, {}, b"<html>welcome</html>")) as server,
        make(server.url) as client,
        pytest.raises(ServerError, match="no answer of latebolt serve"),
    ):
        client.list_indexes()
    with scripted((302, {"Location": "https://elsewhere.example/"}, b"")) as server:
        with make(server.url, KEY) as client, pytest.raises(ServerError, match="sends to 'https://elsewhere"):
            client.list_indexes()
        assert len(server.asked) == 1


def test_a_path_before_ours_and_the_key(make: Any):
    with scripted(said(200, {"hits": []})) as server, make(server.url + "/search/engine/", KEY) as client:
        client.search("notes/../other?", "b")
        assert server.asked == ["POST /search/engine/v1/indexes/notes%2F..%2Fother%3F/search"]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(client) and "latebolt/" in server.headers[0]["User-Agent"]


def test_a_job_that_does_not_end_well(make: Any):
    job = {"id": "j", "index": "a", "documents": 1, "created": 1.0}
    begun = said(202, {**job, "state": "queued"})
    failed = said(200, {**job, "state": "failed", "detail": "the server's disk is full."})
    with (
        scripted(begun, begun, failed) as server,
        make(server.url) as client,
        pytest.raises(ServerError, match="job j: failed; the server's disk is full"),
    ):
        client.add_documents("a", [{"id": "b", "text": "c"}], background=True)
    ended = {**job, "documents": 3, "committed": 2, "state": "cancelled", "detail": "its index was deleted."}
    with scripted(said(200, ended)) as server, make(server.url) as client:
        cancelled = client.cancel_job("j")
        assert server.asked == ["DELETE /v1/jobs/j"]
        assert (cancelled.state, cancelled.committed, cancelled.is_over) == ("cancelled", 2, True)
        with pytest.raises(ServerError, match=r"cancelled; its index was deleted\. 2 of its 3 documents"):
            client.wait(cancelled)
    with (
        scripted(begun) as server,
        make(server.url) as client,
        pytest.raises(ServerUnreachable, match="still queued"),
    ):
        client.wait(Job("j", "a", "queued", 1, 1.0), timeout=0.1)


def test_cancelling_leaves_a_client_that_goes_on(guarded: Running, cities: str):
    async def main() -> None:
        async with AsyncClient(guarded.url, KEY) as client:
            searches = [asyncio.create_task(client.search(cities, f"capital {n}", k=1)) for n in range(40)]
            await asyncio.sleep(0.01)
            for each in searches[::2]:
                each.cancel()
            found = await asyncio.gather(*searches, return_exceptions=True)
            assert all(isinstance(each, list | asyncio.CancelledError) for each in found)
            assert all(isinstance(each, list) and len(each) == 1 for each in found[1::2])
            assert (await client.search(cities, "Rome", k=1))[0].id == "rome"

    asyncio.run(main())


def test_threads_may_share_a_client(guarded: Running, cities: str):
    found: list[str] = []
    with Client(guarded.url, KEY) as client:
        threads = [
            threading.Thread(target=lambda: found.append(client.search(cities, "Rome", k=1)[0].id))
            for _ in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert found == ["rome"] * 8


# Without a server


def test_both_clients_have_the_same_methods():
    def surface(kind: type) -> dict[str, tuple[str, str]]:
        public = {n: m for n, m in vars(kind).items() if inspect.isfunction(m) and not n.startswith("_")}
        public["__init__"] = vars(kind)["__init__"]
        return {name: (str(inspect.signature(m)), m.__doc__) for name, m in public.items()}

    assert surface(Client) == surface(AsyncClient)
    assert all(
        inspect.iscoroutinefunction(getattr(AsyncClient, name)) for name in surface(Client) if name[0] != "_"
    )


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:b", "http://u:p@a", "http://a?b=c", "http://a#b"],
)
def test_what_is_no_address(url: str):
    with pytest.raises(InvalidInput, match="address"):
        Client(url)


def test_addresses():
    assert base_url(" http://[::1]:80/x/ ") == "http://[::1]:80/x"
    for settings in ({"timeout": 0}, {"retries": -1}, {"api_key": "a\nb"}, {"timeout": "x"}):
        with pytest.raises(InvalidInput):
            Client("http://a", **settings)


def test_documents_that_are_none():
    for documents, position in ([[{"id": "a", "text": "b"}, "c"], 1], [[{"id": "a", "n": float("nan")}], 0]):
        with pytest.raises(InvalidInput, match=rf"documents\[{position}\]"):
            list(batches(documents, 10))
    with pytest.raises(InvalidInput, match="documents should be a list"):
        list(batches({"id": "a", "text": "b"}, 10))


@given(st.lists(st.dictionaries(st.sampled_from(["id", "text"]), st.text()), max_size=9), st.integers(1, 4))
def test_batches_are_the_documents(documents: list[dict[str, str]], most: int):
    bodies = list(batches(documents, most))
    read = [each for _, body in bodies for each in json.loads(body)["documents"]]
    assert read == documents and all(0 < n <= most for n, _ in bodies)


def test_a_batch_is_bounded_in_bytes():
    bodies = list(batches([{"id": str(n), "text": "a" * 3_000_000} for n in range(5)], 1000))
    assert [n for n, _ in bodies] == [2, 2, 1]


def test_when_it_is_sent_again():
    busy = ServerError("", 429)
    for tries in range(1, 12):
        pause = reading.pause(busy, tries, 20)
        assert pause is not None and 0 < pause <= min(0.01 * 2 ** (tries - 1), 60)
    assert reading.pause(busy, 3, 2) is None
    assert reading.pause(ServerError("", 429, retry_after=7.0), 1, 1) == 7
    now = 1_700_000_000.0
    assert reading.retry_after("Tue, 14 Nov 2023 22:13:30 GMT", now) == 10
    assert reading.retry_after("Tue, 14 Nov 2022 22:13:30 GMT", now) == 0
    assert reading.retry_after("soon", now) is None and reading.retry_after(None, now) is None
    assert reading.retry_after(" 5 ", now) == 5


def test_a_process_that_only_asks_stays_small(guarded: Running, cities: str):
    code = f"""
import sys
from latebolt.client import Client
assert "httpx2" not in sys.modules
with Client({guarded.url!r}, {KEY!r}) as client:
    print(client.search({cities!r}, "capital of Italy", k=1, explain=True).hits[0].id)
heavy = {{"numpy", "numba", "llvmlite", "onnxruntime", "tokenizers", "click", "fastapi", "pydantic"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "rome\n", done.stderr


def test_without_its_library_the_way_to_it_is_said(tmp_path: Path):
    (tmp_path / "httpx2.py").write_text("raise ImportError")
    code = "import latebolt.client as c\ntry: c.Client('http://a')\nexcept ImportError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True,
        text=True,
    )
    assert "pip install 'latebolt[client]'" in done.stdout, done.stderr


def test_the_example_of_the_documentation(guarded: Running):
    page = PROJECT / "docs" / "server.md"
    [code] = [each.code for each in snippets(page) if "latebolt.client" in each.code]
    code = code.replace("http://127.0.0.1:8080", guarded.url).replace('"KEY"', repr(KEY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[0].endswith(" p1: Late interaction keeps one vector a token."), (
        done.stderr
    )
    assert done.stdout.splitlines()[1] == "1"
    with Client(guarded.url, KEY) as client:
        client.delete_index("papers")
