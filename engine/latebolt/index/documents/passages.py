"""Cuts long texts into passages at token boundaries: how long, how far they overlap, and where. Pure.

A passage begins and ends between words, as the tokenizer tells them; only a word longer than a passage is cut
inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from latebolt.checks import whole_number
from latebolt.errors import InvalidInput
from latebolt.hits import Span

TOKENS_SETTING: Final = "passage_tokens"
OVERLAP_SETTING: Final = "passage_overlap"
LATE_SETTING: Final = "late_chunking"
_MOST_DEFAULT_OVERLAP: Final = 64


@dataclass(frozen=True)
class Cutting:
    """How texts are cut.

    Args:
        tokens: most tokens of a passage, at least 1; a text of no more is not cut.
        overlap: most tokens a passage shares with the one before, below `tokens`.
        window: tokens of the text that a passage is encoded within (late chunking); None where it is encoded
            by itself.
    """

    tokens: int
    overlap: int
    window: int | None = None

    def __str__(self) -> str:
        late = "" if self.window is None else f", late chunking in windows of {self.window}"
        return f"of {self.tokens} tokens, {self.overlap} of them shared{late}"

    def settings(self) -> dict[str, int]:
        """What an index keeps of it."""
        late = {} if self.window is None else {LATE_SETTING: self.window}
        return {TOKENS_SETTING: self.tokens, OVERLAP_SETTING: self.overlap, **late}


def kept_cutting(settings: Mapping[str, Any]) -> Cutting | None:
    """What `Cutting.settings` gave; None where texts are not cut."""
    if TOKENS_SETTING not in settings:
        return None
    return Cutting(settings[TOKENS_SETTING], settings[OVERLAP_SETTING], settings.get(LATE_SETTING))


def check_cutting(
    tokens: int | None, overlap: int | None, room: int, late_chunking: bool = False
) -> Cutting | None:
    """The cutting asked for, None for none.

    Args:
        overlap: a quarter of `tokens` by default, at most 64.
        room: tokens of text that the model takes at once.
        late_chunking: passages are encoded within windows of so many tokens.
    Raises:
        InvalidInput: `tokens` is not in 1..room, `overlap` not in 0..tokens - 1, or given alone.
    """
    if tokens is None:
        if overlap is not None:
            raise InvalidInput("passage_overlap needs passage_tokens, the length of a passage.")
        if late_chunking:
            raise InvalidInput("late_chunking needs passage_tokens, the length of a passage.")
        return None
    tokens = whole_number(tokens, "passage_tokens")
    if tokens > room:
        raise InvalidInput(f"passage_tokens should be an int in 1..{room} for this model, got {tokens}.")
    window = room if late_chunking else None
    if overlap is None:
        return Cutting(tokens, min(tokens // 4, _MOST_DEFAULT_OVERLAP), window)
    overlap = whole_number(overlap, "passage_overlap", 0)
    if overlap >= tokens:
        raise InvalidInput(
            f"passage_overlap should be an int in 0..{tokens - 1}, below passage_tokens, got {overlap!r}."
        )
    return Cutting(tokens, overlap, window)


def cut_tokens(
    begins: Sequence[bool], cutting: Cutting, sentences: Sequence[bool] | None = None
) -> list[range]:
    """The tokens of each passage, in order; one range for a text that is not cut.

    Every passage but the last ends before the last word that does not fit. The next begins `overlap` tokens
    before that end, or at the first word after, so that an overlap is at most a word shorter than asked.

    Args:
        begins: whether each token is the first of a word.
        sentences: whether each token is the first of a sentence: passages then end and begin there wherever
            a sentence fits, and share whole sentences only, none where the last is longer than the overlap.
    """
    n, start = len(begins), 0
    passages: list[range] = []
    while n - start > cutting.tokens:
        full = start + cutting.tokens
        # Only ends beyond the overlap bring the next passage further than this one.
        ends = range(full, start + cutting.overlap, -1)
        firsts = begins
        if sentences is not None and any(sentences[i] for i in ends):
            firsts = sentences
        stop = next((i for i in ends if firsts[i]), full)
        passages.append(range(start, stop))
        back = stop - cutting.overlap
        start = next((i for i in range(back, stop + 1) if firsts[i]), back)
    return [*passages, range(start, n)]


def cut_text(
    spans: Sequence[Span],
    begins: Sequence[bool],
    cutting: Cutting,
    sentences: Sequence[bool] | None = None,
) -> list[Span]:
    """The characters [start, end) of each passage of a text; none at all for a text that is not cut.

    Args:
        spans: the characters each token stands for, in order.
        begins, sentences: see `cut_tokens`.
    """
    if len(spans) <= cutting.tokens:
        return []
    passages = cut_tokens(begins, cutting, sentences)
    return [(spans[tokens[0]][0], spans[tokens[-1]][1]) for tokens in passages]


def cut_parts(
    parts: Iterable[tuple[Sequence[Span], Sequence[bool]]], cutting: Cutting, breaks: Sequence[int] = ()
) -> Iterator[Span]:
    """`cut_text` of a text whose tokens come in parts; holds those of a passage and a part.

    Args:
        parts: (spans, begins) of neighbouring tokens, see `cut_text`.
        breaks: ascending characters before which a passage ends rather than elsewhere, such as those of
            headings and definitions; they are what `cut_tokens` calls sentences.
    """
    spans: list[Span] = []
    begins: list[bool] = []
    firsts: list[bool] = []
    coming = iter(breaks)
    following = next(coming, None)
    is_cut = False
    for more_spans, more_begins in parts:
        spans += more_spans
        begins += more_begins
        for start, _ in more_spans:
            reached = following is not None and start >= following
            firsts.append(reached)
            while following is not None and start >= following:
                following = next(coming, None)
        # Where a passage ends is said by its own tokens and the one behind them.
        *passages, rest = cut_tokens(begins, cutting, firsts if breaks else None)
        for tokens in passages:
            is_cut = True
            yield spans[tokens[0]][0], spans[tokens[-1]][1]
        del spans[: rest.start], begins[: rest.start], firsts[: rest.start]
    if is_cut:
        yield spans[0][0], spans[-1][1]
