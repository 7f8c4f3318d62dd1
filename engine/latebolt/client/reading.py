"""Answers of the server turned into values or errors, and when a request is worth sending again.

Pure: a status, headers and bytes come in.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from latebolt.errors import RequestInvalid, ServerError, ServerUnreachable

T = TypeVar("T")

FIRST_PAUSE: Final = 0.2  # seconds, doubled each time, each of them by chance up to a half shorter
LONGEST_PAUSE: Final = 60.0  # that a server may ask for; longer, and the caller should decide
_AGAIN: Final = frozenset((429, 503))
# 503 that no waiting mends.
_LASTING: Final = frozenset(("storage_full", "broken", "data_missing", "jobs_missing", "snapshots_missing"))


class _Problem(msgspec.Struct):
    detail: str
    code: str = ""
    request_id: str = ""


def read(content: bytes, kind: type[T], url: str) -> T:
    """The answer to a request that went well.

    Raises:
        ServerError: it is none of `latebolt serve`.
    """
    if kind is type(None):
        return None
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerError(
            f"{url}: this is no answer of latebolt serve ({error}). Look at the address.", 200
        ) from error


def refusal(status: int, headers: Mapping[str, str], content: bytes, url: str) -> ServerError:
    """What to raise for an answer that is no success."""
    after = retry_after(headers.get("retry-after"), time.time())
    if 300 <= status < 400:
        place = headers.get("location", "nowhere")
        return ServerError(f"{url}: the server sends to {place!r}. Give that address.", status)
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ServerError(f"{url}: answered with status {status}.", status, retry_after=after)
    seen = f"{status} {problem.code}".strip()
    if problem.request_id:
        seen += f", request {problem.request_id}"
    kind = RequestInvalid if status == 422 else ServerError
    return kind(f"{url}: {problem.detail} ({seen})", status, problem.code, problem.request_id, after)


def unreachable(error: Exception, url: str, seconds: float) -> ServerUnreachable:
    """What to raise where there is no answer."""
    if "Timeout" in type(error).__name__:
        return ServerUnreachable(
            f"{url}: no answer within {seconds:g} s. Give a longer timeout, or send less at a time."
        )
    why = str(error) or type(error).__name__
    return ServerUnreachable(f"{url}: the server cannot be reached ({why}). Does it run there?")


def pause(error: ServerError, tries: int, retries: int) -> float | None:
    """Seconds until a request is sent again; None where it is not.

    Args:
        error: how the last try ended; an answer, or none to a request that may be repeated.
        tries: so far.
        retries: how often at most.
    """
    if tries > retries or (error.status is not None and error.status not in _AGAIN):
        return None
    if error.code in _LASTING:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_PAUSE else None
    longest = min(FIRST_PAUSE * 2.0 ** (tries - 1), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # spread, so that clients do not come back together


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds in a Retry-After, which holds them or a date; None where there is nothing to be read."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
