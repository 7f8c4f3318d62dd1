"""FastAPI's view of the routes, out of which it writes their description (OpenAPI).

Loaded when a description is asked for: no request is answered by it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import fastapi
from pydantic.fields import FieldInfo

from latebolt import __version__
from latebolt.serve.http.routes import Function, Query, Route


def described_by_fastapi(routes: Iterable[Route]) -> fastapi.FastAPI:
    """The routes as an application of FastAPI's, which would answer as ours does: see the tests."""
    app = fastapi.FastAPI(
        title="latebolt",
        version=__version__,
        description="Late-interaction retrieval: token vectors, reranking, named indexes.",
        docs_url=None,  # they load scripts from the web
        redoc_url=None,
        openapi_url=None,  # answered by our router, as everything is
    )
    for route in routes:
        app.add_api_route(route.path, _in_its_words(route), methods=[route.method], **route.about)
    return app


def _in_its_words(route: Route) -> Function:
    """The route's function, whose annotations say in FastAPI's words what ours say."""
    kinds = get_type_hints(route.function, include_extras=True)
    signature = inspect.signature(route.function)

    @functools.wraps(route.function)
    async def same(**arguments: Any) -> Any:
        return await route.function(**arguments)

    parameters = [
        each.replace(annotation=_translated(kinds[name], name in route.in_path))
        for name, each in signature.parameters.items()
    ]
    same.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=kinds["return"]
    )
    return same


def _translated(kind: Any, is_in_path: bool) -> Any:
    if get_origin(kind) is not Annotated:
        return kind
    inner, *notes = get_args(kind)
    for place, note in enumerate(notes):
        if isinstance(note, Query):
            notes[place] = fastapi.Query(description=note.description)
        elif isinstance(note, FieldInfo) and is_in_path:
            pattern = next(each.pattern for each in note.metadata if hasattr(each, "pattern"))
            notes[place] = fastapi.Path(pattern=pattern, description=note.description)
    return Annotated[inner, *notes]
