"""The socket that a server listens at: one of its own, or one that was opened for it and outlives it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Final

from latebolt.errors import InvalidInput, LateboltError

_BACKLOG: Final = 2048
_FIRST_GIVEN: Final = 3  # the first descriptor behind stderr
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def given_socket() -> socket.socket | None:
    """The socket that systemd, or another program, listens at for this process; None where there is none.

    Connections that come while no server runs wait in it, so that a restart refuses none. Asked for once.

    Raises:
        InvalidInput: it is not one TCP socket that listens.
    Source: sd_listen_fds(3).
    """
    given = {name: os.environ.pop(name, "") for name in _VARIABLES}  # not for programs that this one starts
    if given["LISTEN_PID"] != str(os.getpid()):
        return None
    if given["LISTEN_FDS"] != "1":
        raise InvalidInput(f"LISTEN_FDS should be 1, one socket to listen at, got {given['LISTEN_FDS']!r}.")
    try:
        found = socket.socket(fileno=_FIRST_GIVEN)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InvalidInput(
            f"LISTEN_FDS: descriptor {_FIRST_GIVEN} is no socket ({error.strerror})."
        ) from error
    os.set_inheritable(_FIRST_GIVEN, False)
    if not listens or found.family not in (socket.AF_INET, socket.AF_INET6):
        raise InvalidInput(
            "LISTEN_FDS: the socket should be one of TCP that listens. In the unit of the socket, give "
            "ListenStream=ADDRESS:PORT and Accept=no."
        )
    return found


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
