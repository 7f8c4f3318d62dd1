"""The definition of every kernel, in plain loops; the fast twins are held to it by tests.

No numba, no vectors: slow and obvious on purpose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def maxsim_reference(
    query: Float32, values: npt.NDArray[np.floating], offsets: npt.NDArray[np.int64]
) -> Float32:
    """Defines MaxSim; a document without tokens scores 0. See `maxsim.maxsim_arrays` for shapes."""
    scores = np.zeros(len(offsets) - 1, np.float32)
    for doc in range(len(scores)):
        tokens = values[offsets[doc] : offsets[doc + 1]].astype(np.float64)
        for q in query.astype(np.float64):
            if len(tokens):
                scores[doc] += max(float(np.dot(q, token)) for token in tokens)
    return scores


def decode_residual_reference(
    codes: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.integer],
    norms: npt.NDArray[np.uint8],
    norm_table: Float32,
    centroids: Float32,
    weights: Float32,
    bits: int,
) -> Float32:
    """Defines the residual code: (centroid + weight of each dimension's code) * inverse norm.

    A byte holds 8 / bits dimensions, the first in its lowest bits.
    """
    dim = centroids.shape[1]
    per_byte = 8 // bits
    vectors = np.empty((len(cells), dim), np.float32)
    for token in range(len(cells)):
        for d in range(dim):
            code = int(codes[token, d // per_byte]) >> (bits * (d % per_byte)) & (2**bits - 1)
            value = centroids[cells[token], d] + weights[code]
            vectors[token, d] = value * norm_table[norms[token]]
    return vectors
