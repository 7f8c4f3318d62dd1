"""Makes a codec again from what a store recorded, and names the one a new store begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.codec import residual
from latebolt.codec.base import BITS, Codec, bytes_of
from latebolt.codec.kmeans import default_n_centroids
from latebolt.codec.plain import Float16Codec, Int8Codec
from latebolt.errors import InvalidInput


def untrained(dim: int, bits: int) -> Codec:
    """The codec that can be had without a sample: int8 for 8 bits, float16 otherwise."""
    check_bits(bits)
    return Int8Codec(dim) if bits == 8 else Float16Codec(dim)


def bytes_per_token_of(dim: int, bits: int, n_tokens: int) -> float:
    """Bytes a token will take in a store of so many tokens, before there are any.

    Raises:
        InvalidInput: bits is none of those a store can have.
    """
    if check_bits(bits) >= 8:
        return untrained(dim, bits).bytes_per_token()
    return bytes_of(residual.residual_columns(dim, bits, default_n_centroids(n_tokens)))


def check_bits(bits: int) -> int:
    """`bits` itself.

    Raises:
        InvalidInput: it is not 1, 2, 4, 8 or 16.
    """
    if bits not in BITS:
        raise InvalidInput(f"bits should be one of {', '.join(map(str, BITS))}, got {bits!r}.")
    return bits


def restore(arrays: Mapping[str, npt.NDArray[Any]], info: Mapping[str, Any]) -> Codec:
    """The codec whose `state()` was (arrays, info).

    Raises:
        InvalidInput: a kind this version does not know.
    """
    if info["kind"] == residual.KIND:
        centroids, spread, factors = (
            np.ascontiguousarray(arrays[name], np.float32) for name in ("centroids", "spread", "factors")
        )
        levels, bits = np.asarray(arrays["levels"], np.uint8), int(info["bits"])
        unit, far = float(info["unit"]), float(info["far"])
        return residual.ResidualCodec(centroids, levels, spread, factors, bits, unit, far)
    if info["kind"] == "float16":
        return Float16Codec(int(info["dim"]))
    if info["kind"] == "int8":
        return Int8Codec(int(info["dim"]))
    raise InvalidInput(
        f'codec kind "{info["kind"]}" is unknown to this version. '
        "Use the latebolt version that wrote it, or build the index again."
    )
