"""How many 64-bit integers each kernel takes; kept apart so that a warm start need not import numba."""

from __future__ import annotations

N_ARGUMENTS = {
    "maxsim_float32": 10,
    "maxsim_float16": 10,
    "maxsim_int8": 11,
    "maxsim_residual": 17,  # compiled for a width and bits: maxsim_residual:128x2
}
