"""Where a document that is longer than a model reads well is cut into windows. Pure.

They are encoded by themselves, and their vectors are joined.
"""

from __future__ import annotations

from collections.abc import Sequence


def windows(begins: Sequence[bool], most: int) -> list[range]:
    """The tokens of each window, in order.

    Each but the last ends before the last word that does not fit, or inside a word that is longer than a
    window. They are as long as they can be: even shares and ends of sentences were tried and gained nothing.

    Args:
        begins: whether each token is the first of a word.
        most: tokens of a window, at least 1.
    """
    n, start = len(begins), 0
    found = []
    while n - start > most:
        full = start + most
        stop = next((i for i in range(full, start, -1) if begins[i]), full)
        found.append(range(start, stop))
        start = stop
    return [*found, range(start, n)]
