"""The kernels there are: how one is called for a shape, and which of them queries and indexes ask for.

A name is a family of `shapes.N_ARGUMENTS`, and behind a colon the shape that the kernel is compiled for.
"""

from __future__ import annotations

from collections.abc import Iterable

from latebolt.kernels import targets
from latebolt.kernels.shapes import MAX_QUERY_TOKENS, VECTORS

BITS = (1, 2, 4)  # of residual codes
PLAIN = ("maxsim_float32", "maxsim_float16", "byte_table", "nearest_cells", "fill_lists", "gather_lists")

FEW = 4  # query tokens that share a vector at least
_WIDE = 512  # columns up to which tables of bytes grow by 32


def score_table(dim: int, vectors: int) -> str:
    """The kernel for blocks of so many vectors of query lanes."""
    return f"score_table:{dim}" + _short(vectors)


def residual_kernel(dim: int, bits: int, vectors: int, parts: int) -> str:
    """The kernel for blocks of so many vectors, whose query tokens have `parts` lanes each."""
    return f"maxsim_residual:{dim}x{bits}{_short(vectors)}" + (f"x{parts}" if parts > 1 else "")


def _short(vectors: int) -> str:
    return "" if vectors == VECTORS else f"x{vectors}"


def residual_parts(n_query: int, dim: int, isa: str) -> int:
    """How many lanes a token of a short query gets, each with a share of the dimensions: 4, 2 or 1.

    Fewer query tokens than 4 a vector save nothing more: what is left is unpacking the document's codes. In
    tiles it is next to all that is left, so there a token has one lane.
    """
    if not n_query or isa in targets.TILED:
        return 1
    width = targets.WIDTH[isa]
    for parts in (4, 2):
        if max(n_query, FEW) <= width // parts and dim % (4 * parts) == 0:
            return parts
    return 1


def residual_kernels(dim: int, bits: int, isa: str) -> list[str]:
    """Names of the kernels that queries of any length ask for."""
    lengths = range(1, targets.WIDTH[isa] + 1)
    short = {residual_kernel(dim, bits, 1, residual_parts(n, dim, isa)) for n in lengths}
    return [residual_kernel(dim, bits, VECTORS, 1), *sorted(short)]


def centroid_columns(n_query: int) -> int:
    """Columns of a query's table of bytes: 16, steps of 32, and four widths for each doubling above 512.

    What a pass over tokens costs is reading rows: those of 16 bytes take two thirds of the time of 32. Each
    width has a kernel of its own, so that there are not too many.
    """
    if n_query <= 16:
        return 16
    step = 32 if n_query <= _WIDE else 1 << ((n_query - 1).bit_length() - 3)
    return -(-n_query // step) * step


def kernels_of(dims: Iterable[int], isa: str, most_query_tokens: int = MAX_QUERY_TOKENS) -> list[str]:
    """Names of all that indexes of such dims and queries of so many tokens ask for; `targets.code_of` says
    for which instruction set each is compiled."""
    names = list(PLAIN)
    for dim in dims:
        names += [score_table(dim, vectors) for vectors in (VECTORS, 1)]
        names += [f"maxsim_bytes:{dim}", f"nearest_centroid:{dim}", f"nearest_grouped:{dim}"]
        names += [f"choose_lists:{dim}", f"cluster_rows:{dim}"]
        for bits in BITS:
            names += [*residual_kernels(dim, bits, isa), f"encode_residual:{dim}x{bits}"]
            names += [f"nearest_list:{dim}x{bits}", f"decode_residual:{dim}x{bits}"]
    columns = sorted({centroid_columns(n) for n in range(1, most_query_tokens + 1)})
    return [*names, *(f"maxsim_centroids:{n}" for n in columns)]


def compiled_for(dims: Iterable[int], isa: str) -> list[str]:
    """Those of `kernels_of` that have code of their own for an instruction set."""
    return [name for name in kernels_of(dims, isa) if targets.code_of(name, isa) == isa]
