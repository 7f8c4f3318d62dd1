"""Warns, once a call, how many texts were longer than the model reads, and what can be done about it."""

from __future__ import annotations

import logging
import threading

from latebolt.encoder.tally import current

logger = logging.getLogger("latebolt")

_counting = threading.Lock()  # threads that encode parts of a call share its tally


def warn(n_texts: int, n_truncated: int, kind: str, limit: int, way_out: str) -> None:
    """A warning, unless nothing was cut off or a caller gathers what is to be told.

    Args:
        kind: "query" or "document".
        limit: tokens of a text that were read, markers included.
        way_out: what the caller can change, one sentence.
    """
    tally = current()
    if tally is not None:
        with _counting:
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
