"""How many lists each centroid of a segment gets, and the centroid that each list has of its own.

Both come from what the segment's codes say, so that codes stay as they are and every segment's lists fit its
own tokens. Memory stays bounded by the sample that is learnt from.
Source: dividing the region of each centroid, with sub-centroids of its own, is of Baranchuk, Babenko and
Malkov, "Revisiting the inverted indices for billion-scale approximate nearest neighbors", 2018.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.codec.base import Columns
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.index.format import files
from latebolt.kernels import list_centroids as kernels
from latebolt.kernels.list_centroids import SCALE, StoredTokens

# Tokens of a list, about: shorter ones say more of a document, and cost more to choose among and to assign
# to. From so many tokens on they grow with the root of their number.
A_LIST, GROWS_FROM = 75, 1 << 26
SAMPLED: Final = 16  # of them are learnt from
LEAST_SAMPLED: Final = 4  # or else there are fewer lists
ROUNDS: Final = 4  # of k-means
_MOST_SAMPLED: Final = 1 << 24  # in all, as codes
_DECODED: Final = 1 << 17  # at a time
_BLOCK: Final = 1 << 24  # numbers looked at at a time
_IN_MEMORY: Final = 1 << 26  # numbers of lists, 4 bytes each; those of more tokens stand in a file meanwhile


def stored_tokens(columns: Columns, codec: ResidualCodec) -> StoredTokens:
    """A segment's columns with what their numbers mean."""
    return StoredTokens(
        columns["cell"], columns["codes"], columns["norm"], codec.factors, codec.weights, codec.spread,
        codec.centroids,
    )  # fmt: skip


def tokens_a_list(n_tokens: int) -> float:
    """About how many tokens a list has, in a segment of so many."""
    return A_LIST * max(1.0, math.sqrt(n_tokens / GROWS_FROM))


def learn(stored: StoredTokens) -> tuple[Int64, npt.NDArray[np.int8]]:
    """Lists for tokens.

    Returns:
        (starts int64 [n_cells + 1], each centroid's first list; centroids int8 [starts[-1], dim], see
        `kernels.list_centroids`). A centroid with tokens has one list at least, one without has none.
    """
    n = len(stored.cells)
    counts = _counts(stored.cells)
    a_list = tokens_a_list(n)
    wanted = np.maximum(np.rint(counts / a_list).astype(np.int64), counts > 0)
    step = max(int(a_list) // SAMPLED, n // _MOST_SAMPLED, 1)
    # Read in order: a large segment's codes are not all in memory.
    sample = stored._replace(
        cells=np.ascontiguousarray(stored.cells[::step]),
        codes=np.ascontiguousarray(stored.codes[::step]),
        norms=np.ascontiguousarray(stored.norms[::step]),
    )
    sampled = np.bincount(sample.cells, minlength=len(counts))
    wanted = np.minimum(wanted, np.maximum(sampled // LEAST_SAMPLED, counts > 0))
    starts = np.concatenate([[0], np.cumsum(wanted)])
    centroids = np.empty((int(starts[-1]), len(stored.spread)), np.int8)
    single = np.flatnonzero(wanted == 1)
    lengths = np.linalg.norm(stored.centroids[single], axis=1, keepdims=True)
    centroids[starts[single]] = np.rint(SCALE * stored.centroids[single] / np.maximum(lengths, 1e-12))
    several = np.flatnonzero(wanted > 1)
    order = np.argsort(sample.cells, kind="stable")
    ends = np.concatenate([[0], np.cumsum(sampled)])
    first = 0
    while first < len(several):
        sizes = np.cumsum(sampled[several[first:]])
        last = first + max(1, int(np.searchsorted(sizes, _DECODED, side="right")))
        some = several[first:last]
        rows = np.concatenate([order[ends[cell] : ends[cell + 1]] for cell in some.tolist()])
        own, got = (
            np.concatenate([[0], np.cumsum(each[some])]).astype(np.int64) for each in (sampled, wanted)
        )
        learnt = kernels.cluster(kernels.decode(sample, rows), own, got, ROUNDS)
        centroids[np.concatenate([np.arange(starts[c], starts[c + 1]) for c in some.tolist()])] = learnt
        first = last
    return starts.astype(np.int64), centroids


def _counts(cells: npt.NDArray[np.unsignedinteger]) -> Int64:
    """Tokens of each centroid up to the last one that has any."""
    counts = np.zeros(1, np.int64)
    for start in range(0, len(cells), _BLOCK):
        some = np.bincount(cells[start : start + _BLOCK], minlength=len(counts))
        some[: len(counts)] += counts
        counts = some
    return counts


@contextlib.contextmanager
def assigned(
    stored: StoredTokens, starts: Int64, centroids: npt.NDArray[np.int8], folder: Path
) -> Iterator[npt.NDArray[np.uint32]]:
    """Uint32 [n], the list of each token; in a file of no name in the folder where there are very many."""
    n = len(stored.cells)
    if n <= _IN_MEMORY:
        numbers = np.empty(n, np.uint32)
        kernels.nearest_list(stored, starts, centroids, numbers)
        yield numbers
        return
    with files.writing(folder, 4 * n), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and no signal later
            os.posix_fallocate(file.fileno(), 0, 4 * n)
        mapped = np.memmap(file, np.uint32, "r+", shape=(n,))
        kernels.nearest_list(stored, starts, centroids, mapped)
        yield mapped
        del mapped
