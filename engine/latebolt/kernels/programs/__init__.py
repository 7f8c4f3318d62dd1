"""The kernels themselves, written for numba over addresses; compiled by `compiler.py`.

What a kernel must compute is defined in `reference.py`; its docstring names its arguments in their order, the
range first..last-1 that one call works on at the end. Where it says no more, that is a range of documents,
which are scored against one query, and `out` gets one float32 for each. Query lanes: float32
[n_blocks][dim][lanes], padded with zeros; padded lanes never score. `scratch` is private to the calling
thread. A name may carry what is fixed when it is compiled, as in `maxsim_residual:128x2` (dim, bits). With
`x1` behind it a block of query lanes is one vector and not two, for queries that fit: half the work. A
further `x2` or `x4` divides the dimensions over so many lanes of each query token, for queries of few.
"""
