"""httpx2, imported when a client is made, with what both clients ask of it in the same way."""

from __future__ import annotations

import math
import ssl
from importlib import import_module
from typing import TYPE_CHECKING, Any

from latebolt import __version__
from latebolt.checks import check_timeout, whole_number
from latebolt.client.calls import Call, base_url
from latebolt.client.reading import unreachable
from latebolt.errors import InvalidInput, RuntimeUnavailable, ServerError

if TYPE_CHECKING:
    import httpx2


def load() -> Any:
    """The library.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    try:
        return import_module("httpx2")
    except ImportError as error:
        raise RuntimeUnavailable(
            "the client's library is not installed. Run \"pip install 'latebolt[client]'\"."
        ) from error


class Settings:
    """What a client was made with.

    Raises:
        InvalidInput: an argument does not fit.
    """

    def __init__(self, url: str, api_key: str | None, timeout: float | None, retries: int) -> None:
        self.url = base_url(url)
        self.retries = whole_number(retries, "retries", least=0)
        self.seconds = math.inf if timeout is None else check_timeout(timeout)
        if self.seconds == 0:
            raise InvalidInput("timeout should be more than 0 seconds, or None to wait for ever.")
        self.library = load()
        self._headers = {"User-Agent": f"latebolt/{__version__}", "Accept": "application/json"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise InvalidInput("api_key should be of printable ASCII characters, as keys are.")
            self._headers["Authorization"] = f"Bearer {api_key}"

    def options(self) -> dict[str, Any]:
        """Of a client of the library."""
        seconds = None if math.isinf(self.seconds) else self.seconds
        connect = 10.0 if seconds is None else min(10.0, seconds)  # nothing is encoded meanwhile
        plain = self.url.startswith("http://")
        return {
            # To read the authorities' certificates takes 30 ms. A context without any trusts nobody.
            **({"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)} if plain else {}),
            "headers": self._headers,
            "timeout": self.library.Timeout(seconds, connect=connect),
            "follow_redirects": False,  # a key is for the server that it was given for
        }

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments of one request."""
        headers = {} if call.body is None else {"Content-Type": "application/json"}
        return {
            "method": call.method,
            "url": self.url + call.path,
            "content": call.body,
            "headers": headers,
        }

    def lost(self, error: httpx2.TransportError, call: Call[Any]) -> tuple[ServerError, bool]:
        """What to raise for a request without an answer, and whether it may be sent again.

        One that never reached the server may always be; one that was waited for as long as is wanted is not.
        """
        http = self.library
        unsent = isinstance(error, http.ConnectError | http.ConnectTimeout | http.PoolTimeout)
        waited = isinstance(error, http.TimeoutException) and not unsent
        again = unsent or (call.may_repeat and not waited)
        return unreachable(error, self.url + call.path, self.seconds), again
