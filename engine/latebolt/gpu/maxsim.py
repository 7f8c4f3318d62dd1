"""MaxSim of a query with token vectors that are copied to a GPU for it.

Nothing stays on the device: for vectors that are scored again and again there is an index that lives there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.gpu import layout
from latebolt.gpu.cuda import Gpu
from latebolt.kernels.maxsim import checked_query

_BYTES = 1 << 30  # of vectors, that are on the device at once; one document may have more


def maxsim_on(number: int, query: npt.ArrayLike, values: npt.NDArray[np.floating], offsets: Int64) -> Float32:
    """`kernels.maxsim.maxsim_arrays` on a GPU: the same scores but for the rounding of sums.

    Args:
        number: of the GPU, as CUDA counts them.
        query: float32 [n_query, dim], finite; values: float32 or float16 [n_tokens, dim]; offsets: int64
            [n_docs + 1].
    Returns:
        float32 [n_docs].
    Raises:
        InvalidInput: the query's width or a value does not fit.
        RuntimeUnavailable: there is no such GPU, or not what it takes to use it.
        OutOfMemory: the device has too little.
    """
    from latebolt.gpu.kernels.maxsim_float import maxsim_float

    dim = values.shape[1]
    rows = layout.query_rows(checked_query(query, dim))
    gpu, scores = Gpu(number), np.zeros(len(offsets) - 1, np.float32)
    with gpu.at_work(f"{len(scores)} documents"):
        on_device, everything = gpu.put(rows), gpu.empty(0, np.uint32)
        for first, stop in stretches(offsets, max(_BYTES // (dim * values.itemsize), 1)):
            some = gpu.put(values[offsets[first] : offsets[stop]])
            parts = gpu.empty((len(rows), stop - first), np.float32)
            blocks, threads = gpu.grid(stop - first)
            maxsim_float[(blocks, len(rows)), threads](
                on_device, some, gpu.put(offsets[first : stop + 1] - offsets[first]), everything, parts
            )
            scores[first:stop] = parts.copy_to_host().sum(axis=0)
    return scores


def stretches(offsets: Int64, most: int) -> list[tuple[int, int]]:
    """Documents in stretches (first, stop) of up to so many tokens; one with more is a stretch of its own."""
    found, first, n_docs = [], 0, len(offsets) - 1
    while first < n_docs:
        reach = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
        stop = min(max(reach, first + 1), n_docs)
        found.append((first, stop))
        first = stop
    return found
