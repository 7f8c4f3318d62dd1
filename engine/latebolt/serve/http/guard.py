"""What stands before the routes: ids, keys, limits, deadlines and clients that leave.

Pure ASGI. Reads the whole body before anything else happens, so that a slow client holds a connection and
nothing more; then lets the routes work while it watches for the client to leave and the time to run out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from latebolt.errors import IndexInaccessible
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import Ticket, current_ticket
from latebolt.serve.held_bodies import FREE, Full, Lease, current_lease
from latebolt.serve.http import root_path
from latebolt.serve.http.forwarded import Asker, asker
from latebolt.serve.http.router import Router
from latebolt.serve.http.unpack import Unpacker
from latebolt.serve.keys import Right, given
from latebolt.serve.problems import Problem, no_key, not_ready, overloaded, wrong_key
from latebolt.serve.settings import INDEX_NAME, is_loopback
from latebolt.serve.state.service import Service

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WORK: Final = "/v1/"
ASKER: Final = "latebolt.asker"  # who asks, in the scope of a request
_LABEL: Final = "latebolt.key"  # of the key
# Headers that decide what a request may and how it is read.
_SINGLE: Final = frozenset((b"host", b"authorization", b"content-type", b"content-encoding"))
# Paths that are asked with POST and change nothing; whatever is not named here needs a key that may write.
_READING: Final = re.compile(
    r"/v1/(rerank|embeddings|multi-embeddings|multi-vector|indexes/[^/]+/(search|documents/get))/*|/metrics/*"
)


def right_needed(method: str, path: str) -> Right | None:
    """What a key must allow for a request; None where no key is asked for."""
    if method == "OPTIONS" or not path.startswith((_WORK, "/metrics")):
        return None
    reads = method in ("GET", "HEAD") or (method == "POST" and _READING.fullmatch(path))
    return "read" if reads else "write"


class Guard:
    """The outermost application."""

    def __init__(self, app: Router, service: Service) -> None:
        self.app, self.service = app, service
        self._in_flight = 0
        self._proxies = service.settings.proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else goes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings = self.service.settings
        found = asker((scope.get("client") or ("",))[0], scope["headers"], self._proxies)
        below = root_path.below(scope, settings.root, settings.root_path_kept)
        await _Exchange(self, {**below, ASKER: found}, receive, send).run()

    def check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Refuse what needs no body to be refused.

        Raises:
            Problem: it is refused.
        """
        names = [name for name, _ in scope["headers"] if name in _SINGLE]
        if len(set(names)) < len(names):  # a proxy may have judged by the other one
            raise Problem(400, "the request has one of its headers twice.", headers=_CLOSE)
        path, keys = scope["path"], self.service.keys
        root_path.check(path, self.service.settings.root, self.service.settings.root_path_kept)
        needed = right_needed(scope["method"], path)
        if needed is not None and keys.required:
            header = headers.get(b"authorization", b"").decode("latin-1")
            holder = keys.holder_of(header)
            if holder is None:
                raise no_key() if not given(header) else wrong_key()
            scope[_LABEL] = holder.label
            if needed == "write" and holder.right == "read":
                raise Problem(403, "this key may only read. Use one that may write.")
        elif needed is not None and self.service.settings.is_loopback:
            # A page of the web must not reach a server without keys through a name that it points here.
            host = headers.get(b"host", b"").decode("latin-1")
            if not is_loopback(re.sub(r":\d+$", "", host)):
                raise Problem(403, "without keys, this server answers to the names of this machine only.")
        if not path.startswith(_WORK):
            return
        # Whatever it lacked may be there again by the time the state is read.
        if not self.service.answers and (state := self.service.state) != "ready":
            raise not_ready(state)
        if self._in_flight > self.service.settings.queue_requests:
            raise overloaded(
                f"{self._in_flight - 1} requests are worked on or wait, as many as may. Try again later.",
                self.service.batcher.seconds_waiting,
            )
        if int(headers.get(b"content-length", b"0") or 0) > self.service.settings.max_body_bytes:
            raise self.too_large(self.service.settings.max_body_bytes)

    def most_of(self, path: str) -> int:
        """Bytes that a body may have; few where nobody is asked for a key, and no body is looked at."""
        most = self.service.settings.max_body_bytes
        return most if path.startswith(_WORK) else min(most, FREE)

    @staticmethod
    def too_large(most: int) -> Problem:
        """413; the rest of the body is not read."""
        return Problem(413, f"the body may have {most} bytes. Send less at a time.", headers=_CLOSE)

    def full(self) -> Problem:
        """429; the rest of the body is not read."""
        problem = overloaded("the server holds as many bytes of requests as it may. Try again later.", 5)
        problem.headers.update(_CLOSE)
        return problem

    def count(self, change: int) -> None:
        """Requests being worked on."""
        self._in_flight += change
        metrics.show(metrics.IN_FLIGHT, self._in_flight)


_CLOSE: Final = {"Connection": "close"}


class _Left(Exception):
    """The client is gone."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._asker: Asker = scope[ASKER]
        given = self._headers.get(b"x-request-id", b"").decode("latin-1")
        self._id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self._status = 0
        self._code = ""
        self._bytes = 0
        self._ticket = Ticket()
        self._lease = Lease(guard.service.budget)
        # HEAD is answered as GET is, without the body; routes need not know of it.
        self._asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

    async def run(self) -> None:
        start = time.perf_counter()
        self._begun = time.monotonic()
        counts = self._scope["path"].startswith(_WORK)
        self._guard.count(counts)
        try:
            await self._answer()
        except _Left:
            metrics.count(metrics.DISCONNECTED)
            self._code = "disconnected"
        finally:
            self._lease.let_go()
            self._guard.count(-counts)
            self._log(time.perf_counter() - start)

    async def _answer(self) -> None:
        try:
            self._guard.check(self._scope, self._headers)
            await self._work(_once(await self._body()))
        except _Left:
            raise
        except Exception as error:  # noqa: BLE001 - the one place that answers for whatever went wrong
            problem = self._guard.service.problem_of(error, self._begun)
            if _is_for_operators(error, problem):
                log.event(
                    "error",
                    logging.ERROR,
                    request_id=self._id,
                    route=self._route(),
                    code=problem.code,
                    **self._index(),
                    **log.error_fields(error),
                )
            await self._tell(problem)

    async def _body(self) -> bytes | bytearray:
        """The whole body, unpacked.

        Raises:
            Problem: 413, it is too large; 429, there is no room for it; 408, it takes too long; 415 and 400,
                it is packed in a way that is not known, or not as it says.
        """
        most = self._guard.most_of(self._scope["path"])
        unpacker = Unpacker(self._headers.get(b"content-encoding", b"").decode("latin-1"))
        whole, more = bytearray(), True
        try:
            async with asyncio.timeout(self._guard.service.settings.body_timeout):
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    more = message.get("more_body", False)
                    for number, part in enumerate(unpacker.pieces(message.get("body", b""))):
                        if number:  # packed: others may come between two pieces
                            await asyncio.sleep(0)
                        if len(whole) + len(part) > most:
                            raise self._guard.too_large(most)
                        self._lease.grow(len(part))
                        whole += part
        except TimeoutError:
            raise Problem(408, "the body took too long to arrive.", headers=_CLOSE) from None
        except Full:
            raise self._guard.full() from None
        unpacker.finish()
        return whole

    async def _work(self, receive: Receive) -> None:
        """Let the routes answer, unless the client leaves or the time runs out before."""
        current_ticket.set(self._ticket)
        current_lease.set(self._lease)
        work = asyncio.ensure_future(self._guard.app(self._asked, receive, self._pass_on))
        left = asyncio.ensure_future(self._wait_for_leaving())
        try:
            await asyncio.wait(
                {work, left},
                timeout=self._guard.service.settings.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                work.result()
            elif left.done():
                raise _Left
            elif self._status:  # the answer is on its way and has its own time
                await work
            else:
                raise Problem(504, "the request took too long and was given up.", headers=_CLOSE)
        finally:
            left.cancel()
            if not work.done():
                self._ticket.cancel()
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _wait_for_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self._id.encode())]
            if self._guard.service.is_draining and not any(name == b"connection" for name, _ in headers):
                headers.append((b"connection", b"close"))  # the next request goes elsewhere
            message["headers"] = headers
        else:
            if self._scope["method"] == "HEAD":
                message["body"] = b""
            self._bytes += len(message.get("body", b""))
        try:
            async with asyncio.timeout(self._guard.service.settings.body_timeout):
                await self._send(message)
        except TimeoutError:  # the client does not read
            raise _Left from None

    async def _tell(self, problem: Problem) -> None:
        if self._status:  # too late for another answer; the server closes the connection
            return
        self._code = problem.code
        body = problem.body(self._id)
        headers = {**problem.headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._pass_on({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self._pass_on({"type": "http.response.body", "body": body})

    def _route(self) -> str:
        """The pattern of the path, which holds nothing of the request."""
        return getattr(self._asked.get("route"), "path", "") or "other"

    def _index(self) -> dict[str, str]:
        """The index that the request names, in its path or its body; nothing that could be no name."""
        name = self._ticket.index
        if self._route().startswith(("/v1/indexes/{name}", "/v1/snapshots/{name}")):
            name = self._asked["path_params"]["name"]
        return {"index": name} if INDEX_NAME.match(name) else {}

    def _log(self, seconds: float) -> None:
        if "route" not in self._asked:  # refused before: who tried what is worth a line
            self._guard.app.locate(self._asked)
        route = self._route()
        metrics.count(metrics.REQUESTS, route, self._status or "none")
        metrics.observe(metrics.REQUEST_SECONDS, seconds, route)
        if self._code:
            metrics.count(metrics.ERRORS, self._code)
        fields: dict[str, object] = {**self._index()}
        if _LABEL in self._scope:
            fields["key"] = self._scope[_LABEL]
        if self._code:
            fields["code"] = self._code
        if self._ticket.n_truncated:
            fields["truncated"] = self._ticket.n_truncated
        if self._ticket.has_unread_script:
            fields["unread_script"] = True
        log.event(
            "request",
            logging.INFO,
            request_id=self._id,
            client=self._asker.address,
            method=self._scope["method"],
            route=route,
            status=self._status,
            ms=round(1e3 * seconds, 2),
            bytes=self._bytes,
            **fields,
        )


def _is_for_operators(error: Exception, problem: Problem) -> bool:
    """Whether who runs the server should know: an error of ours, or what the system refuses."""
    if isinstance(error, Problem):
        return problem.status == 500
    return problem.status >= 500 or isinstance(error, IndexInaccessible)


def _once(body: bytes | bytearray) -> Receive:
    """A `receive` that gives the body, of which it keeps nothing, and then never says anything."""
    kept = [body]
    del body

    async def receive() -> Message:
        if not kept:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": kept.pop(), "more_body": False}

    return receive
