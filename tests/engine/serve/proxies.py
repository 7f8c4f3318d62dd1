"""A proxy before a server, as people set them up: below a path, which it takes off or hands on."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

import httpx
from servers import PATIENCE

_NOT_HANDED_ON = frozenset(("connection", "content-length", "transfer-encoding", "keep-alive"))


@contextlib.contextmanager
def proxy(server: str, path: str, keeps_path: bool, **headers: str) -> Iterator[str]:
    """The address below which a server is shown.

    Args:
        server: the server's own address.
        path: such as "/search"; the server is shown there and below, and nowhere else.
        keeps_path: it is handed on.
        headers: that it sets, with _ for -.
    """
    added = {name.replace("_", "-"): value for name, value in headers.items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if not self.path.startswith(path):
                self.send_error(404)
                return
            asked = self.path if keeps_path else self.path[len(path) :] or "/"
            said = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_HANDED_ON}
            # As nginx does by default, Host is the name of the server that it asks.
            said |= {"Host": httpx.URL(server).netloc.decode(), "Accept-Encoding": "identity", **added}
            answer = httpx.request(
                self.command,
                server + asked,
                content=body,
                headers=said,
                timeout=PATIENCE,
                follow_redirects=False,
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in _NOT_HANDED_ON:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = hand_on  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}{path}"
        finally:
            listening.shutdown()
            thread.join()
