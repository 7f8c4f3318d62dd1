"""What endpoints there are: each one's path, method and function, and what its description says of it.

Written down without FastAPI, which only describes them (`description.py`): loading it and having it look at
every route is a fifth of a server's start.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import compile_path

Function = Callable[..., Coroutine[Any, Any, Response]]


@dataclass(frozen=True)
class Query:
    """In an argument's annotation: it stands behind the path, as ?name=value.

    Args:
        description: what people read of it.
    """

    description: str | None = None


class Route:
    """An endpoint.

    Args:
        path: arguments of the function stand in it as {name}.
        strict: what it is asked behind the path and does not know is refused by name. Jina's endpoints keep
            Jina's habit, and a page or a health check may be asked `?t=1` to pass a cache.
        about: what its description says, by FastAPI's names.
    """

    def __init__(
        self, path: str, function: Function, method: str, strict: bool, about: Mapping[str, Any]
    ) -> None:
        self.path, self.function, self.method, self.strict, self.about = path, function, method, strict, about
        self.path_regex, _, convertors = compile_path(path)
        self.in_path = frozenset(convertors)


class Routes:
    """Endpoints, in the order in which they are tried.

    Args:
        tags: headings in the description, before those that an endpoint names itself.
        strict: see `Route`.
    """

    def __init__(self, tags: Sequence[str] = (), strict: bool = False) -> None:
        self._tags, self._strict = tags, strict
        self.all: list[Route] = []

    def add(self, method: str, path: str, function: Function, **about: Any) -> None:
        """Add an endpoint; see `Route`."""
        about["tags"] = [*self._tags, *about.get("tags", ())]
        self.all.append(Route(path, function, method, self._strict, about))

    def _of(self, method: str, path: str, about: dict[str, Any]) -> Callable[[Function], Function]:
        def take(function: Function) -> Function:
            self.add(method, path, function, **about)
            return function

        return take

    def get(self, path: str, **about: Any) -> Callable[[Function], Function]:
        """Decorates an endpoint's function, as the other methods do."""
        return self._of("GET", path, about)

    def post(self, path: str, **about: Any) -> Callable[[Function], Function]:
        """See `get`."""
        return self._of("POST", path, about)

    def patch(self, path: str, **about: Any) -> Callable[[Function], Function]:
        """See `get`."""
        return self._of("PATCH", path, about)

    def delete(self, path: str, **about: Any) -> Callable[[Function], Function]:
        """See `get`."""
        return self._of("DELETE", path, about)
