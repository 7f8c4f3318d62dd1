"""Makes a codec again from what a store recorded, and names the one a new store begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.codec import residual_codec
from latebolt.codec.base import BITS, Codec, bytes_of
from latebolt.codec.kmeans import default_n_centroids
from latebolt.codec.plain import Float16Codec, Int8Codec
from latebolt.errors import InvalidInput
from latebolt.kernels.shapes import LEVEL_MOST, N_FACTORS, N_LEVELS

KINDS: Final = (residual_codec.KIND, "float16", "int8")
_LARGEST = 1e6  # of a number in a codec's arrays: those of unit vectors stay far below


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
    return bytes_of(residual_codec.residual_columns(dim, bits, default_n_centroids(n_tokens)))


def check_bits(bits: int) -> int:
    """`bits` itself.

    Raises:
        InvalidInput: it is not 1, 2, 4, 8 or 16.
    """
    if bits not in BITS:
        raise InvalidInput(f"bits should be one of {', '.join(map(str, BITS))}, got {bits!r}.")
    return bits


class UnfitState(InvalidInput):
    """A stored state that no codec of its kind has; `array` is the one that is wrong, "info" for the rest."""

    def __init__(self, array: str, expected: str, got: object) -> None:
        super().__init__(f"the codec's {array} should be {expected}, got {got}.")
        self.array, self.expected, self.got = array, expected, got


def restore(arrays: Mapping[str, npt.NDArray[Any]], info: Mapping[str, Any]) -> Codec:
    """The codec whose `state()` was (arrays, info).

    Raises:
        InvalidInput: a kind this version does not know.
        UnfitState: the state of a known kind is damaged; kernels index by its shapes.
    """
    kind = info.get("kind")
    if kind == residual_codec.KIND:
        return _residual(arrays, info)
    if kind in ("float16", "int8"):
        dim = info.get("dim")
        if type(dim) is not int or dim < 1:
            raise UnfitState("info", "a width of at least 1", dim)
        return Float16Codec(dim) if kind == "float16" else Int8Codec(dim)
    raise InvalidInput(
        f'codec kind "{kind}" is unknown to this version. '
        "Use the latebolt version that wrote it, or build the index again."
    )


def _residual(arrays: Mapping[str, npt.NDArray[Any]], info: Mapping[str, Any]) -> Codec:
    bits, dim, unit, far = (info.get(name) for name in ("bits", "dim", "unit", "far"))
    if bits not in (1, 2, 4) or type(dim) is not int or dim < 8 or dim % 8:
        raise UnfitState("info", "bits of 1, 2 or 4 and a width that is a multiple of 8", f"{bits} and {dim}")
    if not isinstance(unit, int | float) or not isinstance(far, int | float):
        raise UnfitState("info", "numbers for unit and far", f"{unit!r} and {far!r}")
    centroids = _floats(arrays, "centroids", (None, dim))
    spread = _floats(arrays, "spread", (dim,))
    factors = _floats(arrays, "factors", (N_FACTORS, 2))
    if spread.min() <= 0:
        raise UnfitState("spread", "above 0", spread.min())
    levels = arrays.get("levels", np.zeros(0, np.uint8))
    flat = levels.dtype == np.uint8 and levels.ndim == 1
    if not flat or not 2**bits <= len(levels) <= N_LEVELS or levels.max() > LEVEL_MOST:
        got = f"{levels.dtype} {levels.shape}, up to {levels.max(initial=0)}"
        raise UnfitState("levels", f"uint8 [{2**bits} to {N_LEVELS}], up to {LEVEL_MOST}", got)
    return residual_codec.ResidualCodec(centroids, levels, spread, factors, bits, float(unit), float(far))


def _floats(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int | None, ...]
) -> npt.NDArray[np.float32]:
    array = arrays.get(name, np.zeros(0, np.float32))
    fits = array.dtype == np.float32 and len(array.shape) == len(shape) and 0 not in array.shape
    if not fits or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("1 or more" if want is None else str(want) for want in shape)
        raise UnfitState(name, f"float32 [{wanted}]", f"{array.dtype} {array.shape}")
    # The comparison is false for NaN. Scores of such numbers stay finite, too.
    if not (np.abs(array) < _LARGEST).all():
        raise UnfitState(name, f"finite and below {_LARGEST:g}", "others")
    return np.ascontiguousarray(array)
