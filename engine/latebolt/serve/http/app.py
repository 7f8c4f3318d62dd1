"""Puts the server together: the routes, their description, the guard before them, start and stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Scope

from latebolt import __version__
from latebolt.errors import LateboltError
from latebolt.serve import log, metrics
from latebolt.serve.http import routes_indexes, routes_jina
from latebolt.serve.http.answers import answer
from latebolt.serve.http.fast_path import FastPath
from latebolt.serve.http.guard import Guard, right_needed
from latebolt.serve.http.page_files import PageFiles
from latebolt.serve.http.requests import Reader, problems, validation_problem
from latebolt.serve.http.schemas import FILTER, FILTER_REF, Health, MetricsSummary
from latebolt.serve.metrics_summary import summary
from latebolt.serve.problems import Problem, not_ready, problem_of
from latebolt.serve.settings import names
from latebolt.serve.state.service import Service


def make_app(
    service: Service, failed: Callable[[], None] = lambda: None, ready: Callable[[], None] = lambda: None
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        failed: called when the model cannot be loaded.
        ready: called when it has been.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start(failed, ready)
        yield
        reader.close()
        service.close()

    app = FastAPI(
        title="latebolt",
        version=__version__,
        description="Late-interaction retrieval: token vectors, reranking, named indexes.",
        lifespan=lifespan,
        docs_url=None,  # they load scripts from the web
        redoc_url=None,
    )
    reader = Reader(service.settings)
    app.state.reader = reader
    routers = [routes_jina.router(service), routes_indexes.router(service)]
    for router in routers:
        app.include_router(router)
    _add_operations(app, service)
    _add_page(app)
    _add_handlers(app)
    plain = app.openapi
    app.openapi = lambda: _describe(plain(), service)  # type: ignore[method-assign]
    guard = Guard(FastPath(app, routers, reader), service)
    if not service.settings.cors:
        return guard
    return CORSMiddleware(
        guard,
        allow_origins=names(service.settings.cors),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "x-request-id"],
    )


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get(
        "/health",
        tags=["Operations"],
        summary="The process runs",
        responses={200: {"model": Health}, **problems()},
    )
    async def health() -> Response:
        return answer({"status": "ok"})

    @app.get(
        "/ready",
        tags=["Operations"],
        summary="The model has answered once, and requests are welcome",
        responses={200: {"model": Health}, **problems(503)},
    )
    async def ready() -> Response:
        if not service.is_ready:
            raise not_ready(service.state)
        return answer({"status": "ready"})

    @app.get(
        "/metrics",
        tags=["Operations"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    )
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    @app.get(
        "/metrics.json",
        tags=["Operations"],
        summary="Figures for people, in short",
        responses={200: {"model": MetricsSummary}, **problems()},
    )
    async def metrics_summary() -> Response:
        return answer(summary(metrics.collected()))


def _add_page(app: FastAPI) -> None:
    files = PageFiles()

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await file_of_page(request, "index.html")

    # The page names its files relative to itself: a proxy may put the server below a path.
    @app.get("/page/{name}", include_in_schema=False)
    async def file_of_page(request: Request, name: str) -> Response:
        found = files.answer(request, name)
        if found is None:
            raise HTTPException(404)
        return found


def _add_handlers(app: FastAPI) -> None:
    def respond(request: Request, problem: Problem) -> Response:
        request.scope["state"]["code"] = problem.code
        body = problem.body(request.scope["state"]["request_id"])
        return Response(body, problem.status, problem.headers, "application/json")

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, validation_problem(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "there is nothing at this path.", 405: "this path does not take that method."}
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods_of(app, request.scope)))
        detail = words.get(error.status_code, str(error.detail))
        return respond(request, Problem(error.status_code, detail, headers=headers))

    async def on_ours(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status == 500:
            id = request.scope["state"]["request_id"]
            log.event("error", logging.ERROR, request_id=id, **log.error_fields(error))
        return respond(request, problem)

    async def on_unexpected(request: Request, error: Exception) -> Response:
        return respond(request, problem_of(error))  # the guard sees the error too, and logs it

    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(LateboltError, on_ours)
    app.add_exception_handler(Exception, on_unexpected)


def _methods_of(app: FastAPI, scope: Scope) -> set[str]:
    """All methods that a path takes; the router itself names those of one route only."""
    found: set[str] = set()
    for path, methods in app.openapi()["paths"].items():
        if compile_path(path)[0].match(scope["path"]):
            found |= {method.upper() for method in methods}
    return found | {"HEAD"} if "GET" in found else found or {"GET", "HEAD"}


def _describe(description: dict[str, Any], service: Service) -> dict[str, Any]:
    """The OpenAPI description with what only a running server knows: its model, its limits, its keys."""
    schemas, settings = description["components"]["schemas"], service.settings
    for name in ("VectorsRequest", "RerankRequest"):
        if not settings.any_model:
            known = [service.model_name, *service.aliases]
            schemas[name]["properties"]["model"]["anyOf"][0]["enum"] = known
    for name in ("VectorsRequest", "IndexRequest"):
        schemas[name]["properties"]["dimensions"]["anyOf"][0]["enum"] = service.dims
    schemas["Filter"] = FILTER
    where = schemas["SearchRequest"]["properties"]["where"]
    where["anyOf"] = [FILTER_REF, {"type": "null"}]
    if service.is_ready:
        room = service.encoder().document_room
        schemas["IndexRequest"]["properties"]["passage_tokens"]["anyOf"][0]["maximum"] = room
    schemas["RerankRequest"]["properties"]["documents"]["maxItems"] = settings.max_items
    schemas["VectorsRequest"]["properties"]["input"]["anyOf"][-1]["maxItems"] = settings.max_items
    schemas["DocumentsRequest"]["properties"]["documents"]["maxItems"] = settings.max_documents
    description["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if service.keys.required and right_needed(method.upper(), path):
                operation["security"] = [{"key": []}]
    return description
