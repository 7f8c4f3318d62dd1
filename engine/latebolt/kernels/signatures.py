"""How many 64-bit integers each kernel takes; kept apart so that a warm start need not import numba."""

from __future__ import annotations

N_ARGUMENTS = {
    "maxsim_float32": 10,
    "maxsim_float16": 10,
    "byte_table": 8,
    "fill_lists": 10,
    "gather_lists": 11,
    # These are compiled for a shape, which stands behind a colon in the kernel's name.
    "score_table": 6,  # dim: score_table:128; x1 for short queries
    "maxsim_bytes": 12,  # dim: maxsim_bytes:128
    "maxsim_residual": 17,  # dim, bits: maxsim_residual:128x2; x1, x1x2, x1x4 for short queries
    "encode_residual": 13,  # dim, bits: encode_residual:128x2
    "nearest_centroid": 11,  # dim: nearest_centroid:128
    "maxsim_centroids": 10,  # columns of the table: maxsim_centroids:32
}
