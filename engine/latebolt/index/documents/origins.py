"""Where a row of an index comes from: its whole text, its passage's place in that, and that one's in a file.

With it the whole text is put together again, character by character, and known again without encoding it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from latebolt.errors import InvalidInput
from latebolt.hits import Span

TEXT_DIGEST_BYTES: Final = 16
_LONGEST_PLACE: Final = 1 << 14  # characters of JSON: a place is some numbers and a heading

Place = Callable[[int, int], Mapping[str, Any]]
"""Where the characters [start, stop) of a text stand in what it was read from, as a JSON object."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What a row keeps of the text that it is a passage of, or the whole of.

    Args:
        digest: BLAKE2b-128 of the document's text in UTF-8, in its first row; None in others, and where the
            row's vectors were not made from the text.
        overlap: characters at the beginning of the row's text that the row before has too.
        before, after: characters that no passage has, white space mostly, ahead of this one, and behind the
            last one; None for none.
        place: JSON object, where the row's text stands in what it was read from; None where nobody said.
    """

    digest: bytes | None = None
    overlap: int = 0
    before: str | None = None
    after: str | None = None
    place: str | None = None


def text_digest(text: str) -> bytes:
    """What stands for a text: BLAKE2b-128 of its UTF-8; texts of an index hold no halves of characters."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=TEXT_DIGEST_BYTES).digest()


def origins_of(text: str, spans: Sequence[Span], place: Place | None, name: str) -> list[Origin]:
    """The origin of each passage of a text.

    Args:
        spans: characters [start, stop) of each, ascending by both.
        name: of the document, for messages.
    Raises:
        InvalidInput: `place` gives something else than a small JSON object.
    """
    found = []
    covered = 0
    for number, (start, stop) in enumerate(spans):
        found.append(
            Origin(
                digest=None if number else text_digest(text),
                overlap=max(0, covered - start),
                before=text[covered:start] or None,
                after=text[stop:] or None if number + 1 == len(spans) else None,
                place=None if place is None else _place_json(place(start, stop), name),
            )
        )
        covered = stop
    return found


def _place_json(place: Mapping[str, Any], name: str) -> str | None:
    if not isinstance(place, Mapping):
        raise InvalidInput(f"the place of {name!r} should be a dict, got {type(place).__name__}.")
    if not place:
        return None
    try:
        content = msgspec.json.encode(dict(place)).decode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the place of {name!r} should be a dict of JSON values: {error}.") from error
    if len(content) > _LONGEST_PLACE:
        raise InvalidInput(
            f"the place of {name!r} has {len(content)} characters as JSON, more than {_LONGEST_PLACE}."
        )
    return content


def whole_text(rows: Sequence[tuple[str, Origin | None]]) -> str:
    """The text that a document's rows, in order, are passages of.

    Rows of an earlier version, which have no origin, are joined where the end of one is the beginning of the
    next: white space between them may differ from what it was.
    """
    first = rows[0][1]
    if first is None or first.digest is None:
        return _joined([text for text, _ in rows])
    parts = []
    for text, origin in rows:
        known = origin or Origin()
        parts += [known.before or "", text[known.overlap :], known.after or ""]
    return "".join(parts)


def _joined(passages: Sequence[str]) -> str:
    parts = [passages[0]]
    for before, text in itertools.pairwise(passages):
        shared = next((n for n in range(min(len(before), len(text)), 0, -1) if text[:n] == before[-n:]), 0)
        parts += ["" if shared else "\n", text[shared:]]
    return "".join(parts)
