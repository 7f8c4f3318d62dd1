"""Programs over inverted lists: filling them, and summing what the lists that a query probes give.

A list holds, of one centroid, the ascending numbers of the documents with a token in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latebolt.kernels.programs.parts import load_cell, load_i64, load_u8, load_u32, store_i64, store_u32
from latebolt.kernels.shapes import LIST_BLOCK
from latebolt.kernels.vector.instructions import LINE
from latebolt.kernels.vector.memory import fetch, store_f32

# How many lists ahead memory is asked for, and how many bytes of each: as many as a block has of it or so.
AHEAD, FETCHED = 6, 128


def make_fill_lists(isa: str) -> Callable[..., None]:
    def fill_lists(cells, wide, offsets, seen, places, low, high, out, first, last):  # type: ignore[no-untyped-def]
        """Cells u16 (u32 when wide), offsets; seen int64 [high - low], the last document met in each cell of
        low..high-1 plus one, 0 at first; places int64 [high - low], where the cell's next entry goes, moved
        on; out u32, 0 to count only; documents first..last-1."""
        for doc in range(first, last):
            for token in range(load_i64(offsets + 8 * doc), load_i64(offsets + 8 * (doc + 1))):
                cell = load_cell(cells, wide, token)
                if low <= cell < high:
                    shift = 8 * (cell - low)
                    if load_i64(seen + shift) != doc + 1:
                        store_i64(seen + shift, doc + 1)
                        place = load_i64(places + shift)
                        store_i64(places + shift, place + 1)
                        if out != 0:
                            store_u32(out + 4 * place, doc)

    return fill_lists


def make_gather_lists(isa: str) -> Callable[..., None]:
    def gather_lists(  # type: ignore[no-untyped-def]
        lists, probes, n_probes, allowed, n_documents, bits, scratch, rows, sums, found, first, last
    ):
        """Lists u32; probes int64 [n_probes][4]: first and last + 1 position in lists, gain, number of the
        query token from 1 up, ascending, gains of one token descending; allowed u8 [n_documents] or 0 for
        all. Rows u32 and sums float32: the documents that gain, and how much; found int64 [1]: their number.
        Blocks first..last-1 of LIST_BLOCK documents. Tokens are numbered with `bits` bits, sums have what is
        left of 32.

        scratch: int64 [n_probes] positions, u32 [LIST_BLOCK] sums with the token last added below, all 0
        before and after, u32 [LIST_BLOCK + 1] which of them are not."""
        state = scratch + 8 * n_probes
        touched = state + 4 * LIST_BLOCK
        mask = (1 << bits) - 1
        n_found = 0
        for p in range(n_probes):
            low, high = load_i64(probes + 32 * p), load_i64(probes + 32 * p + 8)
            while first > 0 and low < high:
                middle = (low + high) >> 1
                if load_u32(lists + 4 * middle) < first * LIST_BLOCK:
                    low = middle + 1
                else:
                    high = middle
            store_i64(scratch + 8 * p, low)
        for block in range(first, last):
            start = block * LIST_BLOCK
            stop = start + LIST_BLOCK if start + LIST_BLOCK < n_documents else n_documents
            n_touched = 0
            for p in range(n_probes):
                place, end = load_i64(scratch + 8 * p), load_i64(probes + 32 * p + 8)
                gain, token = load_i64(probes + 32 * p + 16), load_i64(probes + 32 * p + 24)
                # Lists stand anywhere: those that follow are fetched meanwhile.
                ahead = lists + 4 * load_i64(scratch + 8 * (p + AHEAD if p + AHEAD < n_probes else p))
                for line in range(0, FETCHED, LINE):
                    fetch(ahead + line)
                while place < end:
                    doc = load_u32(lists + 4 * place)
                    if doc >= stop:
                        break
                    # A damaged list may go back; its sums must not be written elsewhere.
                    if doc >= start:
                        at = state + 4 * (doc - start)
                        old = load_u32(at)
                        # Without branches, which could not be foretold.
                        new = ((old >> bits) + gain) << bits | token
                        store_u32(at, old if old & mask == token else new)
                        store_u32(touched + 4 * n_touched, doc - start)
                        n_touched += 1 if old == 0 else 0
                    place += 1
                store_i64(scratch + 8 * p, place)
            for i in range(n_touched):
                row = load_u32(touched + 4 * i)
                total = load_u32(state + 4 * row) >> bits
                store_u32(state + 4 * row, 0)
                if allowed == 0 or load_u8(allowed + start + row) != 0:
                    store_u32(rows + 4 * n_found, start + row)
                    store_f32(sums + 4 * n_found, np.float32(total))
                    n_found += 1
        store_i64(found, n_found)

    return gather_lists
