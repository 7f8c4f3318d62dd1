"""Warns, once a call, how many texts were longer than the model reads, and what can be done about it.

What encodes texts in several pieces gathers their counts in a `Tally`, and says it in its own words.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator
from dataclasses import dataclass

logger = logging.getLogger("latebolt")


@dataclass
class Tally:
    """Texts of a call that were encoded, and those of them whose end was not read."""

    n_texts: int = 0
    n_truncated: int = 0


_gathering: contextvars.ContextVar[Tally | None] = contextvars.ContextVar("truncation", default=None)


@contextlib.contextmanager
def gathered() -> Iterator[Tally]:
    """What is encoded inside is counted, and said by the caller if it wants to."""
    tally = Tally()
    token = _gathering.set(tally)
    try:
        yield tally
    finally:
        _gathering.reset(token)


def warn(n_texts: int, n_truncated: int, kind: str, limit: int, way_out: str) -> None:
    """A warning, unless nothing was cut off or a caller gathers what is to be told.

    Args:
        kind: "query" or "document".
        limit: tokens of a text that were read, markers included.
        way_out: what the caller can change, one sentence.
    """
    tally = _gathering.get()
    if tally is not None:
        tally.n_texts += n_texts
        tally.n_truncated += n_truncated
    elif n_truncated:
        logger.warning("%s", sentence(n_texts, n_truncated, kind, limit, way_out))


def sentence(n_texts: int, n_truncated: int, kind: str, limit: int, way_out: str) -> str:
    """The words of `warn`."""
    kinds = {"query": "queries", "document": "documents"}[kind]
    verb = "was" if n_truncated == 1 else "were"
    subject = f"{n_truncated} of {n_texts} {kinds} {verb}"
    return (
        f"{subject} longer than the {limit} tokens this model reads; what follows is not in the vectors. "
        f"{way_out}"
    )
