"""The short way to endpoints gives the answers of the long one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from latebolt.serve.http.answers import answer
from latebolt.serve.http.fast_path import FastPath
from latebolt.serve.http.requests import JsonRoute, Reader
from latebolt.serve.problems import Problem
from latebolt.serve.settings import NAME_PATTERN, Settings

Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Loud = Annotated[bool, Query()]


class Asked(BaseModel):
    model_config = ConfigDict(strict=True)
    text: str = Field(min_length=1)
    k: int = 3


def applications() -> tuple[FastAPI, ASGIApp, list[str]]:
    """The long way, the short one over it, and the paths that took the long one."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/plain")
    async def plain(request: Asked) -> Response:
        return answer({"text": request.text, "k": request.k})

    @router.post("/v1/things/{name}/do")
    async def named(
        name: Annotated[str, Path(pattern=NAME_PATTERN)],
        request: Asked,
        loud: Annotated[bool, Query()] = False,
    ) -> Response:
        return answer({"name": name, "text": request.text, "loud": loud}, 201)

    @router.get("/v1/plain")
    async def told() -> Response:
        return answer("told")

    async def told_of(_: Any, problem: Problem) -> Response:
        return Response(problem.body(""), problem.status)

    app, reader = FastAPI(exception_handlers={Problem: told_of}), Reader(Settings(max_depth=4))
    app.state.reader = reader
    app.include_router(router)
    long: list[str] = []

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        long.append(scope["path"])
        await app(scope, receive, send)

    return app, ExceptionMiddleware(FastPath(counted, [router], reader), {Problem: told_of}), long


def ask(app: Any, method: str, path: str, **request: Any) -> tuple[int, bytes, list[tuple[str, str]]]:
    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.request(method, path, **request)

    response = asyncio.run(once())
    return response.status_code, response.content, list(response.headers.items())


SHORT = [
    ("POST", "/v1/plain", {"json": {"text": "a"}}),
    ("POST", "/v1/plain", {"json": {"text": "ä", "k": 7, "more": [[1]]}}),
    ("POST", "/v1/plain", {"json": {"text": "a" * 100_000, "k": 7, "more": [[1]]}}),
    ("POST", "/v1/plain", {"json": {"text": ""}}),
    ("POST", "/v1/plain", {"json": {"k": "3"}}),
    ("POST", "/v1/plain", {"json": [1]}),
    ("POST", "/v1/plain", {"json": {"text": [[[[1]]]]}}),
    ("POST", "/v1/plain", {"content": b"", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/plain", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/plain", {"content": b"{}"}),
    ("POST", "/v1/things/one-1/do", {"json": {"text": "a"}}),
    (
        "POST",
        "/v1/plain",
        {
            "content": b'{"text": "a"}',
            "headers": {"Content-Type": "Application/JSON; charset=utf-8"},
        },
    ),
]
LONG = [
    ("GET", "/v1/plain", {}),
    ("POST", "/v1/things/one/do?loud=true", {"json": {"text": "a"}}),
    ("POST", "/v1/things/One/do", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one%0A/do", {"json": {"text": "a"}}),
    ("POST", "/v1/things/one/do/more", {"json": {"text": "a"}}),
    ("PUT", "/v1/plain", {"json": {"text": "a"}}),
    ("POST", "/v1/nothing", {"json": {"text": "a"}}),
]


@pytest.mark.parametrize(("method", "path", "request_"), SHORT)
def test_fitting_requests_are_answered_alike_but_shortly(method: str, path: str, request_: dict[str, Any]):
    app, direct, long = applications()
    assert ask(direct, method, path, **request_) == ask(app, method, path, **request_)
    assert long == []


@pytest.mark.parametrize(("method", "path", "request_"), LONG)
def test_all_others_are_fastapis(method: str, path: str, request_: dict[str, Any]):
    app, direct, long = applications()
    assert ask(direct, method, path, **request_) == ask(app, method, path, **request_)
    assert len(long) == 1


def test_the_endpoints_that_are_asked_most_take_the_short_way(
    client: httpx.Client, index: str, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(f"{scope['path']} took the long way")

    client.get("/health")  # FastAPI is made ready by its first request
    monkeypatch.setattr(FastAPI, "__call__", refuse)
    assert client.post("/v1/rerank", json={"query": "a", "documents": ["b"]}).status_code == 200
    assert client.post("/v1/multi-vector", json={"input": ["b"]}).status_code == 200
    assert client.post(f"{index}/search", json={"query": "capital"}).status_code == 200
    assert client.post("/v1/plain", json={}).status_code == 500  # and this test would see it if they did
