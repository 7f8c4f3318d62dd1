"""LLVM vector code for the kernels' inner loops, as numba intrinsics over plain addresses.

Query tokens lie in vector lanes, so a document token's value is broadcast and no horizontal reduction
exists but one at the end of a tile, for queries of few tokens (`lanes.sum_parts`). A tile scores several
document tokens at once: their independent accumulators hide the latency of the multiply-add. Which loops
there are and what they mean is in `programs`.
"""
