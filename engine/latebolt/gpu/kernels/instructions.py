"""Instructions of a GPU that numba lacks: byte permutations, integer tensor cores, exchange within a warp.

On a device each is the PTX that its row names. In numba's simulator (NUMBA_ENABLE_CUDASIM=1) each is the same
function in Python, where a warp's threads meet at a board; both are chosen when this module is imported.

Words are uint32 of four bytes, the lowest first. What belongs to a warp is called by all its 32 threads.
"""

from __future__ import annotations

from typing import Any

from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)

FIELDS = {1: 8, 2: 4, 4: 2}  # words of bytes that a word of codes becomes, by bits a code

if SIMULATED:
    from latebolt.gpu.kernels import simulated as _chosen
else:
    from latebolt.gpu.kernels import ptx as _chosen  # type: ignore[no-redef]

four, words, halves, mma = _chosen.four, _chosen.words, _chosen.halves, _chosen.mma
group_max, quad_sum, warp_sum = _chosen.group_max, _chosen.quad_sum, _chosen.warp_sum

UNPACK: dict[int, Any] = {1: _chosen.unpack1, 2: _chosen.unpack2, 4: _chosen.unpack4}
