"""From a request to its answer: finds the route, reads what was asked, calls the route's function.

The one road for every request, good or bad. FastAPI describes the routes (`description.py`) and sees none:
what its layers cost stands in docs/how-it-works.md. Whatever is refused is raised, and the guard answers for
it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from latebolt.checks import unknown_name
from latebolt.serve.http.requests import Reader, misfit
from latebolt.serve.http.routes import Query, Route
from latebolt.serve.problems import Problem, invalid, nothing_here


@dataclass
class _Endpoint:
    """A route, and what its function is called with."""

    route: Route
    body: tuple[str, type[BaseModel]] | None = None
    request: str = ""  # the argument that is the request itself
    path: dict[str, TypeAdapter[Any]] = field(default_factory=dict)
    query: dict[str, TypeAdapter[Any]] = field(default_factory=dict)


class Router:
    """ASGI.

    Args:
        routes: the first one that fits a path and method answers.
        reader: makes models of bodies.
        app: is given what is no request, start and stop.
    Raises:
        TypeError: a route's function takes what no request is read for; names the path and the argument.
    """

    def __init__(self, routes: Iterable[Route], reader: Reader, app: ASGIApp) -> None:
        self._endpoints = [_endpoint(route) for route in routes]
        self._reader, self._app = reader, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request.

        Raises:
            LateboltError: what the reader and the function raise; Problem 404, 405 and 422.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoint, found = self._find(scope["method"], scope["path"])
        scope["route"], scope["path_params"] = endpoint.route, found
        arguments = _checked(endpoint.path, found)
        arguments |= _checked(endpoint.query, _parameters(endpoint, scope["query_string"]))
        if endpoint.body is not None:
            name, model = endpoint.body
            message = await receive()  # the guard gives the whole body at once
            kind = next((value for name_, value in scope["headers"] if name_ == b"content-type"), b"")
            arguments[name] = await self._reader.read(model, kind, message.pop("body"))
        if endpoint.request:
            arguments[endpoint.request] = Request(scope)
        answer = await endpoint.route.function(**arguments)
        await answer(scope, receive, send)

    def locate(self, scope: Scope) -> None:
        """Note which route a request is for, if there is one; for what is refused before it comes here."""
        with contextlib.suppress(Problem):
            endpoint, found = self._find(scope["method"], scope["path"])
            scope["route"], scope["path_params"] = endpoint.route, found

    def _find(self, method: str, path: str) -> tuple[_Endpoint, Mapping[str, str]]:
        path = path.rstrip("/") or "/"
        taken: set[str] = set()
        for endpoint in self._endpoints:
            if match := endpoint.route.path_regex.fullmatch(path):
                if method == endpoint.route.method:
                    return endpoint, match.groupdict()
                taken.add(endpoint.route.method)
        if not taken:
            raise nothing_here()
        allowed = sorted(taken | {"HEAD"} if "GET" in taken else taken)
        raise Problem(405, "this path does not take that method.", headers={"Allow": ", ".join(allowed)})


def _endpoint(route: Route) -> _Endpoint:
    """How the route's function is called.

    Raises:
        TypeError: it takes what no request is read for, or what a request may leave out.
    """
    made = _Endpoint(route)
    kinds = get_type_hints(route.function, include_extras=True)
    for name, parameter in inspect.signature(route.function).parameters.items():
        kind = kinds.get(name, Any)
        if kind is Request:
            made.request = name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            made.body = name, kind
        elif _is_in_query(kind):
            if parameter.default is parameter.empty:
                raise TypeError(f"{route.path}: the query parameter {name} should have a default.")
            made.query[name] = TypeAdapter(kind)
        elif name in route.in_path:
            made.path[name] = TypeAdapter(kind)
        else:
            raise TypeError(
                f"{route.path}: the argument {name} should be named in the path, or be a Request, a model of "
                "the body, or Annotated[..., Query()]."
            )
    return made


def _is_in_query(kind: Any) -> bool:
    return get_origin(kind) is Annotated and any(isinstance(each, Query) for each in get_args(kind))


def _parameters(endpoint: _Endpoint, given: bytes) -> dict[str, str]:
    if not given:
        return {}
    found = dict(parse_qsl(given.decode("latin-1"), keep_blank_values=True))
    if endpoint.route.strict:
        known = [*endpoint.query]
        for name in found:
            if name not in known:
                says = unknown_name(name, known) if known else "is not known here; fields stand in the body."
                raise invalid(name, says, None, "extra_forbidden")
    return found


def _checked(kinds: Mapping[str, TypeAdapter[Any]], given: Mapping[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name in given:
            try:
                arguments[name] = kind.validate_python(given[name])
            except ValidationError as error:
                raise misfit([{**each, "loc": (name,)} for each in error.errors()]) from None
    return arguments
