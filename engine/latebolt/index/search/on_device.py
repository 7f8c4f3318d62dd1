"""Searches of an index whose codes live on GPUs: which of its segments do, and what is asked of the devices.

Several queries that are searched together are scored together: the first that asks is answered for all. What
runs on a GPU is imported with the first search.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from latebolt import devices
from latebolt.arrays import Float32, Int64
from latebolt.codec.base import Codec
from latebolt.errors import IndexUnusable
from latebolt.index.filters.evaluate import Mask
from latebolt.index.search.explain import Trace
from latebolt.index.search.stages import Rows
from latebolt.index.store.codecs import check_columns
from latebolt.index.store.segment import Segment
from latebolt.index.store.store import Snapshot
from latebolt.kernels.maxsim import checked_query

if TYPE_CHECKING:
    from latebolt.gpu.resident import Part, Resident

TOGETHER: Final = 256  # queries that are asked for at once: bounds what is prepared for them


class Candidates(NamedTuple):
    """What a device says of a segment: rows that may be among the best, ascending; or why it says nothing."""

    rows: Rows | None
    why: str


class DeviceSearch:
    """The devices of one index. Threads may share it.

    Args:
        device: see `devices.parse`. "auto" leaves codes on the CPU.
        path: of the index.
    Raises:
        InvalidInput: another word than those of devices.
    """

    def __init__(self, device: str | Sequence[str], path: Path) -> None:
        found = devices.parse(device)
        self._numbers = [each.number for each in found if each.kind == "cuda"]
        self._path, self._lock = path, threading.Lock()
        self._resident: Resident | None = None
        self._process = 0
        self._live: dict[str, tuple[Mask, Rows | None]] = {}

    @property
    def wanted(self) -> bool:
        """Whether codes are to live on a GPU."""
        return bool(self._numbers)

    def live_rows(self, segment: Segment) -> Rows | None:
        """Rows of a segment that are alive, None for all.

        Kept until a commit deletes others: to list millions takes milliseconds, which count here.
        """
        known = self._live.get(segment.name)
        if known is None or known[0] is not segment.alive:
            rows = None if segment.alive.all() else np.flatnonzero(segment.alive)
            known = self._live[segment.name] = segment.alive, rows
        return known[1]

    def candidates(
        self,
        segments: Mapping[str, Segment],
        parts: Sequence[Part],
        queries: Sequence[Float32],
        allowed: Mapping[str, Rows | None],
        filtered: bool,
        k: int,
    ) -> list[dict[str, Candidates]]:
        """For each query what the devices say of each segment; see `QueryBatch`.

        Raises:
            RuntimeUnavailable: there is no such GPU, or not what it takes to use it.
            OutOfMemory: the codes do not fit.
            IndexUnusable: the process was forked since the codes went up.
        """
        from latebolt.gpu.resident import Wanted, why_not
        from latebolt.gpu.search import candidates

        with self._lock:
            resident = self._open()
            resident.refresh(parts)
            self._live = {name: live for name, live in self._live.items() if name in segments}
            wishes = {}
            for name in resident.segments:
                segment, rows = segments[name], allowed[name]
                if rows is None or len(rows):
                    firsts = None if segment.passages is None else _firsts_of(segment)
                    wishes[name] = Wanted(rows, None if filtered else segment.alive, firsts)
            found = candidates(resident, queries, wishes, k)
            where = {name: str(each.gpu) for name, each in resident.segments.items()}
        left = {part.name: why_not(part.codec) or "" for part in parts}
        return [
            {
                name: Candidates(found[name][i], f"exhaustive on {where[name]}")
                if name in found
                else Candidates(None, f"exhaustive on the CPU: {left[name]}")
                for name in segments
            }
            for i in range(len(queries))
        ]

    def _open(self) -> Resident:
        if self._resident is not None and self._process != os.getpid():
            raise IndexUnusable(
                f"{self._path}: its codes went to a GPU before this process was forked, and CUDA does not "
                'survive that. Start processes by "spawn", or open the index in each of them first.'
            )
        if self._resident is None:
            from latebolt.gpu.cuda import Gpu
            from latebolt.gpu.resident import Resident

            self._resident = Resident([Gpu(number) for number in self._numbers], str(self._path))
            self._process = os.getpid()
        return self._resident

    def release(self) -> None:
        """Let go of what is on the devices; asked again, it goes up again."""
        with self._lock:
            if self._resident is not None and self._process == os.getpid():
                self._resident.close()
            self._resident, self._live = None, {}


class QueryBatch:
    """Queries over one snapshot that are searched together.

    Raises:
        InvalidInput: a query's width or a value does not fit.
    """

    def __init__(
        self,
        search: DeviceSearch,
        snapshot: Snapshot,
        codec_of: Callable[[str | None], Codec],
        queries: Sequence[Float32],
    ) -> None:
        self._search, self._snapshot, self._codec_of = search, snapshot, codec_of
        self._queries = [checked_query(query, snapshot.dim) for query in queries]
        self._lock = threading.Lock()
        self._found: dict[tuple[int, int], list[dict[str, Candidates]]] = {}

    def live_rows(self, segment: Segment) -> Rows | None:
        """See `DeviceSearch`."""
        return self._search.live_rows(segment)

    def candidates(
        self, number: int, allowed: Mapping[str, Rows | None], filtered: bool, k: int, trace: Trace
    ) -> dict[str, Candidates]:
        """What the devices say of each segment to the query of that number.

        Args:
            allowed: rows of each segment that may be found, None for all; the same for all queries.
            filtered: whether they depend on more than which rows are alive.
        """
        group = number // TOGETHER
        with self._lock, trace.stage("score on the device", self._snapshot.n_documents):
            if (k, group) not in self._found:
                queries = self._queries[group * TOGETHER : (group + 1) * TOGETHER]
                segments = {segment.name: segment for segment in self._snapshot.segments}
                self._found[k, group] = self._search.candidates(
                    segments, self._parts(), queries, allowed, filtered, k
                )
            return self._found[k, group][number % TOGETHER]

    def _parts(self) -> list[Part]:
        from latebolt.gpu.resident import Part

        parts = []
        for segment in self._snapshot.segments:
            codec = self._codec_of(segment.codec)
            check_columns(segment, codec)
            parts.append(Part(segment.name, codec, segment.column, segment.offsets, segment.check_finite))
        return parts


def _firsts_of(segment: Segment) -> Callable[[Int64], Int64]:
    def firsts(rows: Int64) -> Int64:
        found = segment.first_rows(rows)
        return rows if found is None else found

    return firsts
