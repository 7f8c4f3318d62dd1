"""The socket that a server listens at."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from latebolt.errors import LateboltError

_BACKLOG: Final = 2048


@contextlib.contextmanager
def listening(
    host: str, port: int, way_out: str = "Choose another one with --host and --port."
) -> Iterator[socket.socket]:
    """A socket that listens; port 0 for a free one.

    Raises:
        LateboltError: it cannot; says the way out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            raise LateboltError(
                f"cannot listen at {host}, port {port} ({error.strerror}). {way_out}"
            ) from error
        listener.listen(_BACKLOG)
        yield listener


def url_of(listener: socket.socket) -> str:
    """Where it is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
