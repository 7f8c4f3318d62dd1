"""Puts the server together: the routes, their description, the guard before them, start and stop."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette import routing
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from latebolt.encoder.pooling import MOST_POOLING
from latebolt.serve import metrics
from latebolt.serve.http import routes_indexes, routes_jina
from latebolt.serve.http.answers import answer
from latebolt.serve.http.descriptors import watch_descriptors
from latebolt.serve.http.guard import ASKER, Guard, right_needed
from latebolt.serve.http.page_files import PageFiles
from latebolt.serve.http.requests import Reader, problems
from latebolt.serve.http.root_path import to_folder
from latebolt.serve.http.router import Router
from latebolt.serve.http.routes import Route, Routes
from latebolt.serve.http.schemas import FILTER, FILTER_REF, Health, MetricsSummary
from latebolt.serve.metrics_summary import summary
from latebolt.serve.problems import not_ready, nothing_here
from latebolt.serve.settings import names
from latebolt.serve.state.service import Service


def make_app(service: Service) -> ASGIApp:
    """The server as an ASGI application. Whoever runs it starts the service; it is closed at the end."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        watching = asyncio.ensure_future(watch_descriptors())
        yield
        watching.cancel()
        reader.close()
        service.close()

    reader = Reader(service.settings)
    described = [
        *routes_jina.router(service).all,
        *routes_indexes.router(service).all,
        *_operations(service).all,
    ]
    page = _page(described, service)
    # What is no request, start and stop, is Starlette's to answer.
    start_and_stop = routing.Router(lifespan=lifespan)
    guard = Guard(Router([*described, *page.all], reader, start_and_stop), service)
    if not service.settings.cors:
        return guard
    return CORSMiddleware(
        guard,
        allow_origins=names(service.settings.cors),
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type", "x-request-id"],
    )


def _operations(service: Service) -> Routes:
    routes = Routes()

    @routes.get(
        "/health",
        tags=["Operations"],
        summary="The process runs",
        responses={200: {"model": Health}, **problems()},
    )
    async def health() -> Response:
        return answer({"status": "ok"})

    @routes.get(
        "/ready",
        tags=["Operations"],
        summary="The model has answered once, and requests are welcome",
        responses={200: {"model": Health}, **problems(503)},
    )
    async def ready() -> Response:
        if not service.is_ready:
            raise not_ready(service.state)
        return answer({"status": "ready"})

    @routes.get(
        "/metrics",
        tags=["Operations"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    )
    async def exposition() -> Response:
        names = await service.look_at_indexes()
        return Response(metrics.exposition(names), media_type=metrics.CONTENT_TYPE)

    @routes.get(
        "/metrics.json",
        tags=["Operations"],
        summary="Figures for people, in short",
        responses={200: {"model": MetricsSummary}, **problems()},
    )
    async def metrics_summary() -> Response:
        return answer(summary(metrics.collected()))

    return routes


def _page(described: Sequence[Route], service: Service) -> Routes:
    """What people look at: the page, and the description of the endpoints."""
    routes, files, root = Routes(), PageFiles(), service.settings.root

    @functools.cache
    def of_routes() -> dict[str, Any]:
        from latebolt.serve.http.description import described_by_fastapi

        return described_by_fastapi(described).openapi()

    @routes.get("/openapi.json")
    async def description(request: Request) -> Response:
        base = request.scope[ASKER].origin + root
        # In a thread: the first one loads FastAPI. Nobody else waits for that.
        found = await asyncio.to_thread(lambda: _describe(copy.deepcopy(of_routes()), service))
        # Paths are below where the description is found, which only a trusted proxy knows as a whole.
        return answer({**found, **({"servers": [{"url": base}]} if base else {})})

    @routes.get("/")
    async def page(request: Request) -> Response:
        if root and not request.scope["path"]:  # the root path without a slash, where no relative link holds
            return to_folder(root, request.scope["query_string"])
        return await file_of_page(request, "index.html")

    # The page names its files relative to itself: a proxy may put the server below a path.
    @routes.get("/page/{name}")
    async def file_of_page(request: Request, name: str) -> Response:
        found = files.answer(request, name)
        if found is None:
            raise nothing_here()
        return found

    return routes


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
    for name in ("SearchRequest", "DeleteRequest", "UpdateRequest"):
        schemas[name]["properties"]["where"]["anyOf"] = [FILTER_REF, {"type": "null"}]
    if service.is_ready:
        room = service.encoder().document_room
        schemas["IndexRequest"]["properties"]["passage_tokens"]["anyOf"][0]["maximum"] = room
        most = schemas["IndexRequest"]["properties"]["max_vectors"]["anyOf"][0]
        most |= {"minimum": service.encoder().least_vectors, "maximum": MOST_POOLING}
    schemas["RerankRequest"]["properties"]["documents"]["maxItems"] = settings.max_items
    schemas["VectorsRequest"]["properties"]["input"]["anyOf"][-1]["maxItems"] = settings.max_items
    schemas["DocumentsRequest"]["properties"]["documents"]["maxItems"] = settings.max_documents
    description["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if service.keys.required and right_needed(method.upper(), path):
                operation["security"] = [{"key": []}]
    return description
