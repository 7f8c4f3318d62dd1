"""From bytes to a checked request: content type, depth of nesting, JSON, and what FastAPI finds wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from latebolt.serve.limits import depth_of
from latebolt.serve.problems import CODES, Problem, fault, invalid, invalid_fields
from latebolt.serve.schemas import WORD_PATTERN, ProblemBody, ValidationBody
from latebolt.serve.settings import NAME_PATTERN

_PHRASES = {
    400: "The request is not HTTP as it should be",
    401: "No key, or a wrong one",
    403: "The key may only read",
    404: "There is no such thing",
    409: "Does not fit what is there already",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "A field does not fit",
    429: "Too much to do; Retry-After says when to try again",
    503: "Not ready yet, stopping, or the disk is full",
    504: "Took too long",
}

_PATTERNS = {
    WORD_PATTERN: "is empty. Give it at least one word",
    NAME_PATTERN: "should be 1 to 64 of a-z, 0-9, _ and -, a letter or digit first",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers that are no result, for the description of a route."""
    every = {400, 401, 403, 408, 500, *statuses}
    return {
        status: {
            "model": ValidationBody if status == 422 else ProblemBody,
            "description": _PHRASES.get(status, CODES[status].replace("_", " ")),
        }
        for status in sorted(every)
    }


class JsonRoute(APIRoute):
    """A route whose body is checked before FastAPI sees it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI, "Custom Request and APIRoute class"."""
        handler = super().get_route_handler()
        takes_body = self.body_field is not None

        async def checked(request: Request) -> Response:
            if takes_body:
                request = _JsonRequest(request.scope, request.receive)
                await request.load()
            return await handler(request)

        return checked


class _JsonRequest(Request):
    async def load(self) -> None:
        """Read and parse the body, see `parse_json`."""
        most: int = self.app.state.service.settings.max_depth
        kind = self.headers.get("content-type", "").encode("latin-1")
        self._json = parse_json(kind, await self.body(), most)

    async def json(self) -> Any:
        """The parsed body."""
        return self._json


def parse_json(content_type: bytes, body: bytes, max_depth: int) -> Any:
    """The content of a body.

    Raises:
        Problem: 415, it is not said to be JSON; 422, it is not, or nested too deep.
    """
    if content_type.split(b";")[0].strip().lower() != b"application/json":
        raise Problem(415, 'the body should be JSON, with the header "Content-Type: application/json".')
    if depth_of(body, max_depth) > max_depth:
        raise invalid("", f"the body is nested more than {max_depth} levels deep.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("", "the body is not JSON in UTF-8.", None, "json_invalid") from error


def validation_problem(error: RequestValidationError) -> Problem:
    """422, told field by field."""
    return invalid_fields([_fault(each) for each in error.errors()])


def _fault(each: Mapping[str, Any]) -> dict[str, Any]:
    message = str(each["msg"]).removeprefix("Value error, ")
    if each["type"] == "string_pattern_mismatch":
        message = _PATTERNS[each["ctx"]["pattern"]]
    return fault(_path(each["loc"]), message, each.get("input"), str(each["type"]))


def _path(location: Sequence[str | int]) -> str:
    """`documents.3.text` of ("body", "documents", 3, "text")."""
    return ".".join(str(part) for part in location[1:])
