"""A short way to the endpoints that take JSON: the same functions, without FastAPI's layers.

What a request has to be is FastAPI's to say: one that does not fit a schema goes to it, and it answers. This
only spares the others the layers between, which take longer than a small search.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latebolt.serve.requests import JsonRoute, parse_json
from latebolt.serve.settings import INDEX_NAME


class _Way(NamedTuple):
    """A route, and how its function is called: a model made of the body, and names out of the path."""

    route: JsonRoute
    function: Callable[..., Coroutine[Any, Any, Response]]
    body: str
    model: type[BaseModel]


class Direct:
    """ASGI: answers what it can, and hands everything else to `app`."""

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], max_depth: int) -> None:
        self._app, self._max_depth = app, max_depth
        found = (_way(route) for router in routers for route in router.routes if isinstance(route, JsonRoute))
        self._ways = [way for way in found if way is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request.

        Raises:
            LateboltError: what the function raises, and `Problem` for a body that is not JSON.
        """
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        for way in self._ways:
            match = way.route.path_regex.match(scope["path"])
            if match and all(map(INDEX_NAME.match, match.groups())):
                await self._answer(way, match.groupdict(), scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(
        self, way: _Way, names: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        message = await receive()  # the guard gives the whole body at once
        scope["route"] = way.route
        headers = dict(scope["headers"])
        content = parse_json(headers.get(b"content-type", b""), message["body"], self._max_depth)
        try:
            body = way.model.model_validate(content)
        except ValidationError:
            await self._app(scope, _again(message, receive), send)
            return
        answer = await way.function(**names, **{way.body: body})
        await answer(scope, receive, send)


def _way(route: JsonRoute) -> _Way | None:
    """None for a route without a body."""
    hints = typing.get_type_hints(route.endpoint)
    bodies = [
        (name, kind) for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    return _Way(route, route.endpoint, *bodies[0]) if bodies else None


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives a message once more, and then what comes."""
    kept = [message]

    async def give() -> Message:
        return kept.pop() if kept else await receive()

    return give
