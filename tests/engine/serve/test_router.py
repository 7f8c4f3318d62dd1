"""The one road of a request: what FastAPI would answer, without FastAPI; whatever is refused is raised."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi import Query as FastApiQuery
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette import routing
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from latebolt.serve.http.answers import answer
from latebolt.serve.http.description import described_by_fastapi
from latebolt.serve.http.requests import Reader, misfit
from latebolt.serve.http.router import Router
from latebolt.serve.http.routes import Query, Routes
from latebolt.serve.problems import Problem
from latebolt.serve.settings import NAME_PATTERN, Settings


class Asked(BaseModel):
    model_config = ConfigDict(strict=True)
    text: str = Field(min_length=1)
    k: int = 3


def applications(strict: bool = False) -> tuple[ASGIApp, ASGIApp]:
    """Ours, and FastAPI with its answers put into our words."""
    router = Routes(strict=strict)

    @router.post("/v1/plain")
    async def plain(request: Asked) -> Response:
        return answer({"text": request.text, "k": request.k})

    @router.post("/v1/things/{name}/do")
    async def named(
        name: Annotated[str, Field(pattern=NAME_PATTERN)],
        request: Asked,
        loud: Annotated[bool, Query()] = False,
    ) -> Response:
        return answer({"name": name, "text": request.text, "loud": loud}, 201)

    @router.get("/v1/plain")
    async def told() -> Response:
        return answer("told")

    @router.get("/v1/jobs/{id}")
    async def job(id: str) -> Response:
        return answer(id)

    @router.get("/")
    async def page(request: Request) -> Response:
        return answer(request.headers["host"])

    async def told_of(_: Any, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            # FastAPI says first where a field stands: path, query or body.
            error = misfit([{**each, "loc": each["loc"][1:]} for each in error.errors()])
        if isinstance(error, HTTPException):
            detail = {404: "there is nothing at this path.", 405: "this path does not take that method."}
            error = Problem(error.status_code, detail[error.status_code])
        assert isinstance(error, Problem)
        return Response(error.body(""), error.status, error.headers)

    handlers = {Problem: told_of, RequestValidationError: told_of, HTTPException: told_of}
    reference = described_by_fastapi(router.all)
    for kind, handler in handlers.items():
        reference.add_exception_handler(kind, handler)

    async def nothing(*_: Any) -> None: ...

    ours = Router(router.all, Reader(Settings(max_depth=4)), nothing)
    return ExceptionMiddleware(ours, handlers), reference


def ask(app: Any, method: str, path: str, **request: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.request(method, path, **request)

    return asyncio.run(once())


JSON = {"Content-Type": "application/json"}
ALIKE = [
    ("POST", "/v1/plain", {"json": {"text": "a"}}),
    ("POST", "/v1/plain", {"json": {"text": "ä", "k": 7, "more": [[1]]}}),
    ("POST", "/v1/plain", {"json": {"text": "a" * 100_000, "k": 7, "more": [[1]]}}),
    ("POST", "/v1/plain", {"json": {"text": "a"}, "headers": {"Content-Type": "Application/JSON;a=b"}}),
    ("POST", "/v1/plain?k=3", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one-1/do", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do?loud=true", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do?loud=1", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do?loud=true&loud=off", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do?loud=", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do?loud=often", {"json": {"text": "a"}}),
    ("POST", "/v1/things/One/do", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one%0A/do", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do/more", {"json": {"text": "a"}}),
    ("PUT", "/v1/plain", {"json": {"text": "a"}}),
    ("DELETE", "/v1/things/one/do", {}),
    ("POST", "/v1/nothing", {"json": {"text": "a"}}),
    ("GET", "/v1/plain", {}),
    ("GET", "/v1/jobs/a%20b", {}),
    ("GET", "/v1/jobs/", {}),
    ("GET", "/?t=1", {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "request_"), ALIKE)
def test_requests_are_answered_as_fastapi_does(method: str, path: str, request_: dict[str, Any]):
    ours, reference = applications()
    found, expected = ask(ours, method, path, **request_), ask(reference, method, path, **request_)
    assert (found.status_code, found.content) == (expected.status_code, expected.content)
    if found.status_code < 400:
        assert found.headers.raw == expected.headers.raw


OURS = [
    ({"json": {"text": ""}}, 422, '"field":"text"'),
    ({"json": {"k": "3", "text": "a"}}, 422, '"field":"k"'),
    ({"json": [1]}, 422, '"field":""'),
    ({"json": {"text": [[[[1]]]]}}, 422, "nested more than 4"),
    ({"content": b"", "headers": JSON}, 422, "json_invalid"),
    ({"content": b"{", "headers": JSON}, 422, "json_invalid"),
    ({"content": b'{"text": "a"}'}, 415, "should be JSON"),
]


@pytest.mark.parametrize(("request_", "status", "says"), OURS)
def test_bodies_are_refused_by_the_reader(request_: dict[str, Any], status: int, says: str):
    found = ask(applications()[0], "POST", "/v1/plain", **request_)
    assert (found.status_code, says in found.text) == (status, True), found.text


def test_all_methods_of_a_path_are_named():
    ours, _ = applications()
    assert ask(ours, "PUT", "/v1/plain").headers["allow"] == "GET, HEAD, POST"
    assert ask(ours, "PUT", "/v1/things/a/do").headers["allow"] == "POST"


def test_a_slash_at_the_end_changes_nothing():
    ours, _ = applications()
    assert ask(ours, "GET", "/v1/plain/").text == '"told"'
    assert ask(ours, "POST", "/v1/things/one/do/", json={"text": "a"}).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("POST", "/v1/things/one/do?lout=true", 'lout: is not known here; did you mean \\"loud\\"?'),
        ("POST", "/v1/plain?k=3", "k: is not known here; fields stand in the body."),
        ("GET", "/v1/plain?limit", "limit: is not known here"),
    ],
)
def test_endpoints_of_ours_refuse_parameters_that_they_do_not_know(method: str, path: str, says: str):
    request = {"json": {"text": "a"}} if method == "POST" else {}
    found = ask(applications(strict=True)[0], method, path, **request)
    assert found.status_code == 422
    assert says in found.text


async def of_the_query(k: Annotated[int, Query()]) -> Response: ...
async def of_nowhere(k: int = 3) -> Response: ...
async def in_fastapis_older_way(k: int = FastApiQuery(3)) -> Response: ...
async def without_a_type(k=3) -> Response: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (of_the_query, "the query parameter k should have a default"),
        (of_nowhere, "the argument k should be named in the path"),
        (in_fastapis_older_way, "the argument k should be named in the path"),
        (without_a_type, "the argument k should be named in the path"),
    ],
)
def test_what_no_request_is_read_for_is_refused_at_the_start(function: Any, says: str):
    routes = Routes()
    routes.add("POST", "/v1/search", function)
    with pytest.raises(TypeError, match=f"^/v1/search: {says}"):
        Router(routes.all, Reader(Settings()), applications()[1])


def test_no_other_road_sees_a_request(client: httpx.Client, index: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    async def refuse(self: FastAPI | routing.Router, scope: Scope, *_: Any) -> None:
        seen.append(scope["path"])
        raise AssertionError(f"{scope['path']} took a second road")

    async def pass_on(self: Router, *request: Any) -> None:
        await self._app(*request)

    monkeypatch.setattr(FastAPI, "__call__", refuse)
    monkeypatch.setattr(routing.Router, "__call__", refuse)
    assert client.post("/v1/rerank", json={"query": "a", "documents": ["b"]}).status_code == 200
    assert client.post(f"{index}/search", json={"query": "capital"}).status_code == 200
    assert client.post(f"{index}/search", json={"query": 3}).status_code == 422
    assert client.post(f"{index}/search?k=3", json={"query": "capital"}).status_code == 422
    assert client.post("/v1/rerank?k=3", json={"query": "a", "documents": ["b"]}).status_code == 200
    for path in ("/", "/health", "/ready", "/metrics", "/metrics.json", "/openapi.json", "/v1/indexes"):
        assert client.get(path).status_code == 200
    assert client.get("/nothing").status_code == 404
    assert client.put("/health").status_code == 405
    assert not seen
    # A request that did reach another would have been noticed.
    monkeypatch.setattr(Router, "__call__", pass_on)
    assert client.get("/health").status_code == 500
    assert seen == ["/health"]


def test_a_server_starts_without_fastapi():
    """Loading it, and having it look at every route, would be a fifth of the start."""
    code = (
        "import sys\n"
        "from latebolt.serve.process import make_server\n"
        "from latebolt.serve.keys import Keys\n"
        "from latebolt.serve.settings import Settings\n"
        "make_server(Settings(), Keys('', None))\n"
        "print('starlette' in sys.modules, 'fastapi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stdout + done.stderr
