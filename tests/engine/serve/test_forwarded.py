"""Who asks behind proxies: what counts of X-Forwarded-*, and that nobody else's word does."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.errors import InvalidInput
from latebolt.serve.http.forwarded import asker
from latebolt.serve.settings import Settings

TRUSTED = Settings(trusted_proxies="10.0.0.0/8, 192.0.2.7,2001:db8::/32").proxies
CLIENT, PROXY, SECOND = "203.0.113.9", "10.1.2.3", "192.0.2.7"


def headers(*given: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in given]


def address(peer: str, *forwarded: str) -> str:
    return asker(peer, headers(*(("X-Forwarded-For", each) for each in forwarded)), TRUSTED).address


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (CLIENT, [], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"1.1.1.1, {CLIENT}"], CLIENT),  # what the client made up stands before
        (PROXY, [f"1.1.1.1, {CLIENT}, {SECOND}"], CLIENT),
        (PROXY, ["1.1.1.1", CLIENT, SECOND], CLIENT),  # one header after the other
        (PROXY, ["10.9.9.9, 10.8.8.8"], "10.9.9.9"),  # all are ours: the first of them asked
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"unknown, {SECOND}"], SECOND),
        (PROXY, [""], PROXY),
        (PROXY, ["<script>"], PROXY),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db9::1]:4711"], "2001:db9::1"),
        (PROXY, ["[2001:db9::1]"], "2001:db9::1"),
        (PROXY, ["2001:DB9:0::1"], "2001:db9::1"),
        (PROXY, [f"{CLIENT}, 2001:db8::5"], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),  # of a socket that listens at ::
        (f"::ffff:{CLIENT}", ["1.1.1.1"], f"::ffff:{CLIENT}"),
        ("203.0.113.1", [CLIENT], "203.0.113.1"),  # nobody whom we trust says it
        ("", [CLIENT], ""),
    ],
)
def test_the_list_is_walked_from_its_end_over_trusted_proxies(peer: str, forwarded: list[str], expected: str):
    assert address(peer, *forwarded) == expected


ADDRESSES = st.ip_addresses().map(str)


def is_trusted(text: str) -> bool:
    found = ipaddress.ip_address(text)
    return any((getattr(found, "ipv4_mapped", None) or found) in network for network in TRUSTED)


@given(ADDRESSES, st.lists(ADDRESSES | st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_what_a_stranger_says_is_nothing(peer: str, forwarded: list[str], text: str):
    said = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    said += [(b"x-forwarded-host", text.encode()), (b"x-forwarded-proto", b"https"), (b"host", text.encode())]
    for trusted in ((), TRUSTED):
        if not trusted or not is_trusted(peer):
            assert asker(peer, said, trusted) == (peer, "")


@given(st.lists(ADDRESSES, max_size=4), ADDRESSES.filter(lambda each: not is_trusted(each)))
def test_what_a_client_makes_up_is_nothing(made_up: list[str], client: str):
    seen = ipaddress.ip_address(client)
    expected = str(getattr(seen, "ipv4_mapped", None) or seen)
    assert address(PROXY, *made_up, client) == address(PROXY, client, SECOND) == expected


@pytest.mark.parametrize(
    ("said", "origin"),
    [
        ([], ""),
        ([("Host", "a.example")], ""),
        ([("X-Forwarded-Proto", "https"), ("Host", "a.example")], "https://a.example"),
        ([("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "a.example:8443"), ("Host", "b")], "https://a.example:8443"),
        ([("X-Forwarded-Host", "a.example"), ("Host", "127.0.0.1:8080")], "http://a.example"),
        ([("X-Forwarded-Proto", "http, https"), ("X-Forwarded-Host", "evil.example, a.example")], "https://a.example"),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "[2001:db9::1]:80")], "https://[2001:db9::1]:80"),
        ([("X-Forwarded-Proto", "javascript"), ("Host", "a.example")], ""),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example/path"), ("Host", "b")], ""),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "user@a.example")], ""),
    ],
)  # fmt: skip
def test_where_the_client_sees_the_server(said: list[tuple[str, str]], origin: str):
    assert asker(PROXY, headers(*said), TRUSTED).origin == origin
    assert asker(CLIENT, headers(*said), TRUSTED).origin == ""


@pytest.mark.parametrize("text", ["proxy", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.1;10.0.0.2", "*"])
def test_what_is_no_network_is_told(text: str):
    with pytest.raises(InvalidInput, match="--trusted-proxies should be addresses or networks"):
        Settings(trusted_proxies=f"127.0.0.1,{text}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("search", "should be like /search"),
        ("/se arch", "should be like /search"),
        ("/a//b", "should be like /search"),
        ("https://a.example/search", "should be like /search"),
        ("/v1", "/v1 is a path of the server's own"),
        ("/page/x", "/page is a path of the server's own"),
    ],
)
def test_what_is_no_root_path_is_told(text: str, says: str):
    with pytest.raises(InvalidInput, match=f"^--root-path.*{says}"):
        Settings(root_path=text)


def test_a_root_path_has_no_slash_at_its_end():
    given_ = ("", "/", "/a", "/a/", "/a/b-c.d~e/")
    assert [Settings(root_path=text).root for text in given_] == ["", "", "/a", "/a", "/a/b-c.d~e"]
