"""Who asks where a proxy stands between: what X-Forwarded-For, -Proto and -Host say, from a trusted one.

Each proxy adds the address that it was asked from at the end of X-Forwarded-For, whatever stands there
already. So the list is walked from its end, over trusted proxies alone: the first other address is the
client's, and what stands before it is what that client made up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from latebolt.serve.settings import Network

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# An address with its port, as some proxies write it.
_WITH_PORT: Final = re.compile(r"\[(?P<six>[^\]]+)\](?::[0-9]+)?|(?P<four>[0-9.]+):[0-9]+")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Asker(NamedTuple):
    """Who asks.

    Args:
        address: of the client, as text without a port; empty where the system names none.
        origin: where the client sees the server, such as "https://search.example"; empty unless a trusted
            proxy says so.
    """

    address: str
    origin: str


def asker(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> Asker:
    """Who has sent a request.

    Args:
        peer: the address of the other end of the connection.
        headers: names in lower case, and values; of one name there may be several.
        trusted: the networks of the proxies whose word counts.
    """
    if not trusted:
        return Asker(peer, "")
    client = _address(peer)
    if client is None or not _is_of(client, trusted):
        return Asker(peer, "")
    said: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name == b"host" or name.startswith(b"x-forwarded-"):
            said.setdefault(name, []).extend(part.strip() for part in value.decode("latin-1").split(","))
    for text in reversed(said.get(b"x-forwarded-for", [])):
        hop = _address(text)
        if hop is None:  # "unknown", say: nobody further away is known
            break
        client = hop
        if not _is_of(hop, trusted):
            break
    return Asker(str(client), _origin(said))


def _origin(said: dict[bytes, list[str]]) -> str:
    """By the word of the nearest proxy, which is the last where several have added theirs."""
    scheme = said.get(b"x-forwarded-proto", [""])[-1].lower()
    forwarded = said.get(b"x-forwarded-host", [""])[-1]
    host = forwarded or said.get(b"host", [""])[-1]
    if not (scheme or forwarded) or scheme not in ("", "http", "https") or not _HOST.fullmatch(host):
        return ""
    return f"{scheme or 'http'}://{host}"


def _address(text: str) -> Address | None:
    ported = _WITH_PORT.fullmatch(text)
    if ported is not None:
        text = ported["six"] or ported["four"]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # What listens at :: is told addresses of IPv4 as ::ffff:10.0.0.1.
    return getattr(found, "ipv4_mapped", None) or found


def _is_of(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)
