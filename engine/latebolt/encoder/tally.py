"""What is counted of a call's texts to be told once: those cut off, and letters that the model does not read.

What encodes texts in several pieces gathers their counts in a `Tally`, and says it in its own words.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

# Fewer letters than a word has are no evidence of anything.
_LEAST_LETTERS: Final = 6


class Letters(NamedTuple):
    """Letters of texts that were looked at, and how many of them the model does not read."""

    n: int = 0
    unread: int = 0

    def plus(self, more: Letters) -> Letters:
        """Both together."""
        return Letters(self.n + more.n, self.unread + more.unread)

    @property
    def are_mostly_unread(self) -> bool:
        """Whether three fifths are unread, and there are enough to say so.

        Of scripts that a model reads single sentences are nearly all below, of others nearly all above.
        """
        return self.n >= _LEAST_LETTERS and 5 * self.unread > 3 * self.n


@dataclass
class Tally:
    """Texts of a call that were encoded, those of them whose end was not read, and letters looked at."""

    n_texts: int = 0
    n_truncated: int = 0
    letters: Letters = field(default_factory=Letters)


_gathering: contextvars.ContextVar[Tally | None] = contextvars.ContextVar("tally", default=None)


@contextlib.contextmanager
def gathered() -> Iterator[Tally]:
    """What is encoded inside is counted, and said by the caller if it wants to."""
    tally = Tally()
    token = _gathering.set(tally)
    try:
        yield tally
    finally:
        _gathering.reset(token)


def current() -> Tally | None:
    """The tally of a caller that gathers what is to be told."""
    return _gathering.get()
