"""The kernels themselves, written for numba over addresses; compiled by `native.py`.

Each function scores documents first..last-1 of a store against one query and writes one float32 a
document, or says otherwise. What it must compute is defined in `reference.py`; which arguments it takes is
in its docstring, addresses first. Query lanes: float32 [n_blocks][dim][lanes], padded with zeros; padded
lanes never score. `scratch` is float32 [lanes + TILE * dim], private to the calling thread. A name may carry
what is fixed when it is compiled, as in `maxsim_residual:128x2` (dim, bits). With `x1` behind it a block of
query lanes is one vector and not two, for queries that fit: half the work. A further `x2` or `x4` divides the
dimensions over so many lanes of each query token, for queries of few.
"""
