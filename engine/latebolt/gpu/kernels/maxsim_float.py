"""MaxSim of blocks of 32 query tokens with documents as whole vectors, float32 or float16.

A warp has a document, a thread a query token: what a document token has in a dimension is read once for the
warp, four tokens at a time. Sums are float32 in the order of the dimensions.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32

from latebolt.gpu.kernels.instructions import warp_sum

_LOWEST, _ZERO = np.float32(-np.inf), np.float32(0)


@cuda.jit
def maxsim_float(query, values, offsets, mask, out):
    """query float32 [n_blocks, dim, 32], padded with zeros; values float32 or float16 [n_tokens, dim];
    offsets, mask, out as in `maxsim_residual`. The grid's second axis is the block of query tokens."""
    thread, block = cuda.threadIdx.x, cuda.blockIdx.y
    lane = thread % 32
    n_docs, dim = out.shape[1], values.shape[1]
    warps = cuda.gridDim.x * (cuda.blockDim.x // 32)
    for doc in range(cuda.blockIdx.x * (cuda.blockDim.x // 32) + thread // 32, n_docs, warps):
        if mask.shape[0] > 0 and (mask[doc // 32] >> (doc % 32)) & 1 == 0:
            if lane == 0:
                out[block, doc] = _LOWEST
            continue
        start, stop = offsets[doc], offsets[doc + 1]
        best = _LOWEST
        for at in range(start, stop, 4):
            # Past the end the last token is scored again: a maximum may see it twice.
            second, third, fourth = min(at + 1, stop - 1), min(at + 2, stop - 1), min(at + 3, stop - 1)
            a, b, c, d = _ZERO, _ZERO, _ZERO, _ZERO
            for i in range(dim):
                factor = query[block, i, lane]
                a += factor * float32(values[at, i])
                b += factor * float32(values[second, i])
                c += factor * float32(values[third, i])
                d += factor * float32(values[fourth, i])
            best = max(best, max(max(a, b), max(c, d)))
        total = warp_sum(best if start < stop else _ZERO)
        if lane == 0:
            out[block, doc] = total
