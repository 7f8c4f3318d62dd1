"""Plans which texts share a run of a GPU, and how many tokens a run may have. Pure: lengths and bytes in,
places of texts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

# Texts of a run: bounds what a run of very short ones makes beside its tokens.
MOST_ROWS: Final = 2048
# Tokens of a run from which on texts that are much shorter than its longest have the next one.
ENOUGH_TOKENS: Final = 4096
# Share of the longest text's length from which on a text is filled up to it in a run with enough tokens.
LEAST_SHARE: Final = 0.75

# Tokens of a run where nothing is known of the device's memory, and what is chosen between.
DEFAULT_TOKENS: Final = 16_384
LEAST_TOKENS: Final = 1024
MOST_TOKENS: Final = 65_536
# Share of free memory that runs may take; the rest is for what else grows: other programs, the arena's gaps.
SHARE: Final = 0.6


class Text(NamedTuple):
    """What planning needs of a tokenised text: its tokens, and whether all may be attended to."""

    tokens: int
    whole: bool = True


class Run(NamedTuple):
    """Texts that share a run, by their places in the call, and its form; see `gpu_runs.FORMS`."""

    form: str
    texts: tuple[int, ...]


def plan(texts: Sequence[Text], form: str, budget: int) -> list[Run]:
    """Every text in one run, the longest first, so that a run for which memory is too small fails at once.

    A text that hides tokens from others needs a mask, and its hidden tokens' vectors, which only padded runs
    have. A text that is longer than the budget has a run of its own.

    Args:
        form: see `gpu_runs.FORMS`.
        budget: tokens of a run, padding included.
    """
    order = sorted(range(len(texts)), key=lambda i: (-texts[i].tokens, i))
    if form == "padded":
        return _cut(order, texts, form, budget)
    if form == "ragged":
        runs = _cut([i for i in order if texts[i].whole], texts, form, budget)
        return runs + _cut([i for i in order if not texts[i].whole], texts, "padded", budget)
    numbers: dict[int, int] = {}
    for text in texts:
        numbers[text.tokens] = numbers.get(text.tokens, 0) + text.whole
    equal = [i for i in order if texts[i].whole and numbers[texts[i].tokens] > 1]
    alike = set(equal)
    runs = _cut(equal, texts, form, budget)
    return runs + _cut([i for i in order if i not in alike], texts, "padded", budget)


def _cut(order: Sequence[int], texts: Sequence[Text], form: str, budget: int) -> list[Run]:
    """Neighbours in this order, longest first, as long as they fit and are alike."""
    runs: list[Run] = []
    row: list[int] = []
    width = held = 0
    for i in order:
        tokens = texts[i].tokens
        after = held + tokens if form == "ragged" else (len(row) + 1) * width
        if row and (
            after > budget
            or len(row) == MOST_ROWS
            or (form == "equal" and tokens != width)
            or (form == "padded" and tokens < LEAST_SHARE * width and len(row) * width >= ENOUGH_TOKENS)
        ):
            runs.append(Run(form, tuple(row)))
            row = []
        if not row:
            width, held = tokens, 0
        row.append(i)
        held += tokens
    if row:
        runs.append(Run(form, tuple(row)))
    return runs


def halves(run: Run) -> list[Run]:
    """The same texts in two runs; a run of one text stays."""
    middle = (len(run.texts) + 1) // 2
    return [Run(run.form, part) for part in (run.texts[:middle], run.texts[middle:]) if part]


def budget(free: int | None, taken: int, probe: int, lanes: int) -> int:
    """Tokens of a run, from what a run of `probe` tokens took.

    Args:
        free: bytes of the device's memory before that run; None where nobody says.
        taken: bytes fewer were free after it, as what a run takes is kept for the next one.
        lanes: runs at a time.
    """
    if free is None:
        return DEFAULT_TOKENS
    if taken <= 0:  # it fitted into what was held already
        return MOST_TOKENS if free > 0 else LEAST_TOKENS
    fits = int(SHARE * free / lanes * probe / taken)
    return max(LEAST_TOKENS, min(MOST_TOKENS, fits))
