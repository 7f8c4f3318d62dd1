"""Behind a proxy: the page, the description, links and clients below a path; what logs say of who asks."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from proxies import proxy
from servers import Running, serving, wait_until

from latebolt.client import Client
from latebolt.serve import log
from latebolt.serve.settings import Settings

PATH = "/tools/search"
WRITER, READER = "written-by-a-test-1", "read-by-a-test-only"


@pytest.fixture(scope="module", params=[False, True], ids=["taken-off", "handed-on"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server below a path of a proxy."""
    settings = {"root_path": f"{PATH}/", "root_path_kept": request.param, "trusted_proxies": "127.0.0.1"}
    with (
        serving(tmp_path_factory.mktemp("proxy"), **settings) as running,
        proxy(
            running.url, PATH, request.param, X_Forwarded_Proto="https", X_Forwarded_Host="a.example"
        ) as url,
    ):
        yield url


# A script's words for a link of the page, in `querySelector`, are no link of the script.
LINKS = {
    "text/html": r'(?:href|src)="([^"]+)"',
    "text/css": r"url\(([^)]+)\)",
    "text/javascript": r'from "(\./[^"]+)"',
}


def test_every_link_of_the_page_holds(shown: str):
    page = f"{shown}/"
    seen, waiting = set(), [page]
    while waiting:
        url = waiting.pop()
        if url in seen or "#" in url:
            continue
        seen.add(url)
        answer = httpx.get(url)
        assert answer.status_code == 200, url
        assert url.startswith(page)
        links = LINKS.get(answer.headers["content-type"].split(";")[0])
        found = re.findall(links, answer.text) if links else []
        waiting += [urljoin(url, each.strip("\"'")) for each in found]
    assert {
        urljoin(page, each) for each in ("openapi.json", "metrics", "page/page.js", "page/api.js")
    } <= seen


def test_what_the_page_asks_is_relative():
    folder = Path(log.__file__).parent / "page"
    for script in folder.glob("*.js"):
        asked = re.findall(
            r"""(?:ask\w*|fetch)\(\s*["'`]([^"'`]+)|path: ["'`]([^"'`]+)""", script.read_text()
        )
        assert not [each for each in asked if "".join(each).startswith(("/", "http"))], script.name


def test_the_description_says_where_its_paths_are(shown: str):
    described = httpx.get(f"{shown}/openapi.json").json()
    assert described["servers"] == [{"url": f"https://a.example{PATH}"}]
    below = httpx.URL(described["servers"][0]["url"]).path
    assert httpx.get(f"{shown.removesuffix(PATH)}{below}/health").status_code == 200


def test_clients_work_below_a_path(shown: str):
    with Client(shown) as client:
        client.create_index("below")
        client.add_documents("below", [{"id": "a", "text": "Paris is the capital of France."}])
        assert client.search("below", "capital", k=1)[0].id == "a"
        client.delete_index("below")


def test_a_redirect_names_no_place(shown: str, request: pytest.FixtureRequest):
    answer = httpx.get(f"{shown}?index=a", follow_redirects=False)
    if "handed-on" in request.node.name:
        assert (answer.status_code, answer.headers["location"]) == (307, "search/?index=a")
        answer = httpx.get(f"{shown}?index=a", follow_redirects=True)
        assert answer.url == f"{shown}/?index=a"
    assert answer.text.startswith("<!doctype html>")


def test_a_server_at_the_root_redirects_nothing(client: httpx.Client, index: str):
    for path in (
        "/",
        "//",
        "/health/",
        "/ready/",
        "/v1/models/",
        f"{index}/",
        "/page/page.js/",
        "/page",
        "/openapi.json/",
    ):
        answer = client.get(path)
        assert not answer.is_redirect and "location" not in answer.headers, path
    assert "servers" not in client.get("/openapi.json").json()


def test_a_path_that_should_be_taken_off_is_told(tmp_path: Path):
    with serving(tmp_path, root_path=PATH) as running:
        for path in (PATH, f"{PATH}/", f"{PATH}/v1/models"):
            refused = running.client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (404, "root_path")
            assert "--root-path-kept" in refused.json()["detail"]
        assert running.client.get(f"{PATH}more").json()["code"] == "not_found"
        assert running.client.get("/v1/models").status_code == 200
        assert running.client.get("/openapi.json").json()["servers"] == [{"url": PATH}]


def test_a_path_is_taken_off_once(tmp_path: Path):
    """Twice would be a second name for everything, past whatever a proxy forbids by the first."""
    with serving(tmp_path, root_path=PATH, root_path_kept=True) as running:
        for path, status in [
            (f"{PATH}/v1/models", 200),
            (f"{PATH}/metrics", 200),
            ("/ready", 200),  # health checks ask without
            (f"{PATH}{PATH}/v1/models", 404),
            (f"{PATH}more/v1/models", 404),
        ]:
            assert running.client.get(path).status_code == status, path


def test_strangers_cannot_say_where_the_server_is(client: httpx.Client):
    said = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "1.1.1.1"}
    assert "evil" not in client.get("/openapi.json", headers=said).text


# What logs say


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The lines of requests so far, as they are written."""
    written = [log._JsonLines().format(record) for record in caplog.records]
    return [line for line in map(json.loads, written) if line["event"] == "request"]


def line_of(caplog: pytest.LogCaptureFixture, id_: str) -> dict[str, object]:
    """The line of a request, which is written after its answer."""
    wait_until(lambda: any(line["request_id"] == id_ for line in lines(caplog)))
    return next(line for line in lines(caplog) if line["request_id"] == id_)


@pytest.fixture
def logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    keys = tmp_path / "keys"
    keys.write_text(f"# label: nightly import\n{WRITER} write\n{READER} read\n")
    settings = {"keys_file": str(keys), "trusted_proxies": "127.0.0.0/8,10.0.0.0/8"}
    with serving(tmp_path / "data", **settings) as running, caplog.at_level(logging.INFO, "latebolt.serve"):
        caplog.clear()
        yield running


def test_a_line_says_who_asked_what_of_which_index(logged: Running, caplog: pytest.LogCaptureFixture):
    def ask(method: str, path: str, key: str = "", **request: object) -> dict[str, object]:
        id_ = f"{len(caplog.records)}-{method}"
        said = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.1", "X-Request-ID": id_}
        if key:
            said["Authorization"] = f"Bearer {key}"
        logged.client.request(method, path, headers=said, **request)
        line = line_of(caplog, id_)
        assert line["client"] == "203.0.113.9"
        return {name: line[name] for name in ("status", "route", "index", "key", "code") if name in line}

    one = "/v1/indexes/{name}"
    assert ask("POST", "/v1/indexes", WRITER, json={"name": "a"}) == {
        "status": 201, "route": "/v1/indexes", "index": "a", "key": "nightly import",
    }  # fmt: skip
    documents = {"documents": [{"id": "a", "text": "b"}]}
    assert ask("POST", "/v1/indexes/a/documents", WRITER, json=documents) == {
        "status": 200, "route": f"{one}/documents", "index": "a", "key": "nightly import",
    }  # fmt: skip
    assert ask("POST", "/v1/indexes/a/search", READER, json={"query": "b"}) == {
        "status": 200, "route": f"{one}/search", "index": "a", "key": "line 3",
    }  # fmt: skip
    # What was refused before anything looked at it, too.
    assert ask("DELETE", "/v1/indexes/a", READER) == {
        "status": 403, "route": one, "index": "a", "key": "line 3", "code": "forbidden",
    }  # fmt: skip
    assert ask("DELETE", "/v1/indexes/a", "nobody-has-this-key") == {
        "status": 401, "route": one, "index": "a", "code": "wrong_key",
    }  # fmt: skip
    assert ask("DELETE", "/v1/indexes/a") == {
        "status": 401, "route": one, "index": "a", "code": "unauthorized",
    }  # fmt: skip
    # No name of an index stands there unless it could be one.
    assert ask("DELETE", "/v1/indexes/A%0Ab", WRITER) == {
        "status": 422, "route": one, "key": "nightly import", "code": "validation_error",
    }  # fmt: skip
    assert ask("GET", "/page/page.js") == {"status": 200, "route": "/page/{name}"}
    assert ask("HEAD", "/v1/indexes/a", READER)["index"] == "a"
    assert ask("GET", "/nothing") == {"status": 404, "route": "other", "code": "not_found"}


def test_a_line_without_proxies_has_the_other_end(running: Running, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "latebolt.serve"):
        running.client.get("/health", headers={"X-Forwarded-For": "6.6.6.6", "X-Request-ID": "one"})
        assert line_of(caplog, "one")["client"] == "127.0.0.1"


def test_no_log_holds_a_key_or_what_tells_one(logged: Running, caplog: pytest.LogCaptureFixture):
    wrong = "wrong-key-of-a-stranger"
    for n, key in enumerate((WRITER, READER, wrong)):
        said = {"Authorization": f"Bearer {key}", "X-Request-ID": str(n)}
        logged.client.get("/v1/models", headers=said)
        line_of(caplog, str(n))
    text = "\n".join(log._JsonLines().format(record) for record in caplog.records)
    for key in (WRITER, READER, wrong):
        digest = hashlib.sha256(key.encode()).hexdigest()
        for part in (*(key[i : i + 6] for i in range(len(key) - 5)), digest[:12], digest[-12:]):
            assert part not in text, part


def test_settings_of_proxies_are_off_by_default():
    settings = Settings()
    assert (settings.proxies, settings.root, settings.root_path_kept) == ((), "", False)
