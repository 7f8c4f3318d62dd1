"""Which text is encoded next. Pure: no threads, no clock of its own.

Two lanes: queries go before documents, which get a turn after so many takes of queries. Within a lane
requests have places in time: when they arrived, plus the time that their size takes. So small requests
overtake a huge one, equal ones keep their order, and everyone's turn comes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Lane = Literal["query", "document"]
LANES: Final[tuple[Lane, ...]] = ("query", "document")

# Tokens a second that a request's size is turned into time with: about what one core encodes.
_RATE: Final = 15_000
# Takes of queries in a row while documents wait.
_MOST_QUERY_TAKES: Final = 8


@dataclass
class Waiting:
    """The texts of a request that wait, by their tokens; `owner` is whoever put them there."""

    owner: Any
    lane: Lane
    tokens: Sequence[int]
    arrived: float
    next: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = sum(self.tokens)

    @property
    def place(self) -> float:
        """Seconds on the clock of `arrived`."""
        return self.arrived + sum(self.tokens) / _RATE


class Lanes:
    """The texts that wait. Not for several threads at a time."""

    def __init__(self) -> None:
        self._heaps: dict[Lane, list[tuple[float, int, Waiting]]] = {lane: [] for lane in LANES}
        self.tokens: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self.texts: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._arrivals = self._query_takes = 0

    def put(self, waiting: Waiting) -> None:
        """Take a request in."""
        self._arrivals += 1
        heapq.heappush(self._heaps[waiting.lane], (waiting.place, self._arrivals, waiting))
        self.tokens[waiting.lane] += waiting.left
        self.texts[waiting.lane] += len(waiting.tokens)

    def take(self, budget: int, takers: int, only: Lane | None = None) -> list[tuple[Any, int]]:
        """The next texts, as (owner, number of the text), of one lane.

        Args:
            budget: tokens in all; a longer text comes alone.
            takers: how many share what waits; nobody takes more than a share, so that all have work.
            only: the lane, and what is in it by order of nothing else.
        Returns:
            At least one text; none when nothing waits.
        """
        lane = only or self._next_lane()
        heap = self._heaps[lane]
        room = min(budget, math.ceil(self.tokens[lane] / takers))
        taken: list[tuple[Any, int]] = []
        while heap:
            waiting = heap[0][2]
            cost = waiting.tokens[waiting.next]
            if taken and cost > room:
                break
            taken.append((waiting.owner, waiting.next))
            room -= cost
            waiting.next += 1
            waiting.left -= cost
            self.tokens[lane] -= cost
            self.texts[lane] -= 1
            if waiting.next == len(waiting.tokens):
                heapq.heappop(heap)
            if room <= 0:
                break
        return taken

    def remove(self, waiting: Waiting) -> None:
        """Forget what a request has left."""
        lane = waiting.lane
        kept = [entry for entry in self._heaps[lane] if entry[2] is not waiting]
        if len(kept) == len(self._heaps[lane]):
            return
        heapq.heapify(kept)
        self._heaps[lane] = kept
        self.tokens[lane] -= waiting.left
        self.texts[lane] -= len(waiting.tokens) - waiting.next

    def _next_lane(self) -> Lane:
        documents_wait = bool(self._heaps["document"])
        if not self._heaps["query"] or (documents_wait and self._query_takes >= _MOST_QUERY_TAKES):
            self._query_takes = 0
            return "document"
        self._query_takes += documents_wait
        return "query"
