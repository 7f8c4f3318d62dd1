"""Finds the program of a kernel's name and makes it for an instruction set and a shape.

The only module of this package that `compiler` asks.
"""

from __future__ import annotations

from collections.abc import Callable

from latebolt.kernels import targets
from latebolt.kernels.programs import tiled
from latebolt.kernels.programs.centroids import (
    make_byte_table,
    make_maxsim_centroids,
    make_nearest_cells,
    make_nearest_centroid,
    make_score_table,
)
from latebolt.kernels.programs.encode_residual import make_encode_residual
from latebolt.kernels.programs.grouped import make_nearest_grouped
from latebolt.kernels.programs.list_centroids import (
    make_choose_lists,
    make_cluster_rows,
    make_decode_residual,
    make_nearest_list,
)
from latebolt.kernels.programs.lists import make_fill_lists, make_gather_lists
from latebolt.kernels.programs.maxsim import make_maxsim_bytes, make_maxsim_float16, make_maxsim_float32
from latebolt.kernels.programs.maxsim_residual import make_maxsim_residual
from latebolt.kernels.shapes import N_ARGUMENTS

_BUILDERS: dict[str, Callable[[str], Callable[..., None]]] = {
    "maxsim_float32": make_maxsim_float32,
    "maxsim_float16": make_maxsim_float16,
    "byte_table": make_byte_table,
    "nearest_cells": make_nearest_cells,
    "fill_lists": make_fill_lists,
    "gather_lists": make_gather_lists,
}

_SHAPED: dict[str, Callable[..., Callable[..., None]]] = {
    "maxsim_bytes": make_maxsim_bytes,  # dim
    "maxsim_residual": make_maxsim_residual,  # dim, bits, vectors of query lanes, parts of the dimensions
    "score_table": make_score_table,  # dim, vectors of query lanes where it is not VECTORS
    "encode_residual": make_encode_residual,  # dim, bits
    "nearest_centroid": make_nearest_centroid,  # dim
    "nearest_grouped": make_nearest_grouped,  # dim
    "choose_lists": make_choose_lists,  # dim
    "nearest_list": make_nearest_list,  # dim, bits
    "decode_residual": make_decode_residual,  # dim, bits
    "cluster_rows": make_cluster_rows,  # dim
    "maxsim_centroids": make_maxsim_centroids,  # lanes, a multiple of 8
}


# The same for instruction sets that multiply in tiles; see `names.code_of`.
_TILED: dict[str, Callable[..., Callable[..., None]]] = {
    "maxsim_bytes": tiled.make_maxsim_bytes,
    "maxsim_residual": tiled.make_maxsim_residual,
    "nearest_centroid": tiled.make_nearest_centroid,
}


def build(name: str, isa: str) -> tuple[Callable[..., None], int]:
    """The Python function to compile and its number of arguments."""
    family, _, suffix = name.partition(":")
    shape = [int(part) for part in suffix.split("x") if part]
    code = targets.code_of(name, isa)
    if code in targets.TILED:
        return _TILED[family](code, *shape), N_ARGUMENTS[family]
    isa = code
    if shape:
        return _SHAPED[family](isa, *shape), N_ARGUMENTS[family]
    return _BUILDERS[family](isa), N_ARGUMENTS[family]
