"""Who may ask over HTTP: the server's keys, and no page of the web. Pure ASGI."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from latebolt.serve.keys import Keys, given
from latebolt.serve.problems import Problem, no_key, wrong_key

RIGHT: Final = "latebolt.right"  # in the scope of a request that is let through


class Access:
    """Lets through whoever has a key, and notes what it may."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; what belongs to no request goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            right = self._right(scope)
        except Problem as problem:
            await _refuse(problem, send)
            return
        # A slash more is no other place: Starlette would redirect to it, by an address that a proxy hides.
        path = scope["path"].rstrip("/") or "/"
        await self._app({**scope, RIGHT: right, "path": path}, receive, send)

    def _right(self, scope: Scope) -> str:
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        single = {}
        for name in (b"authorization", b"host", b"origin"):
            values = [value for each, value in headers if each == name]
            if len(values) > 1:
                raise Problem(400, "the request has one of its headers twice.")
            single[name] = values[0] if values else ""
        if not self._keys.required:
            return "write"  # where no key is needed, only this machine can ask, and the SDK looks at names
        origin = single[b"origin"]
        if origin and urlsplit(origin).netloc.lower() != single[b"host"].lower():
            raise Problem(403, "pages of other origins may not ask this server.")
        holder = self._keys.holder_of(single[b"authorization"])
        if holder is None:
            raise no_key() if not given(single[b"authorization"]) else wrong_key()
        return holder.right


async def _refuse(problem: Problem, send: Send) -> None:
    body = problem.body("")
    headers = {**problem.headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
