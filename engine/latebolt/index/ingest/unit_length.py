"""Holds token vectors that callers give to unit length, on which codecs and scores rely.

Where an index keeps directions only, a vector of another length would count as if it had length one, and the
ranking would change on the day the codec is learnt.
"""

from __future__ import annotations

import logging
from typing import Final

import numpy as np

from latebolt.errors import InvalidInput
from latebolt.values import TokenVectors

logger = logging.getLogger("latebolt")

# Lengths that rounding leaves: vectors decoded from one byte a dimension are within a hundredth of one.
TOLERANCE: Final = 0.05
# Nearer than this a length is left as it is: float32 and float16 round so.
_EXACT: Final = 1e-3


def unit_vectors(vectors: TokenVectors, name: str, normalize: bool | None = None) -> TokenVectors:
    """The vectors at unit length; itself where they are.

    Args:
        name: of the argument, for messages.
        normalize: of vectors whose length differs from one by more than rounding does: True makes them unit
            length without a word, None with one in the log, False refuses them.
    Raises:
        InvalidInput: names the first document with a vector that is not finite, is zero, or is refused for
            its length.
    """
    # In float64: the square of a large float32 is none.
    norms = np.sqrt(np.einsum("ij,ij->i", vectors.values, vectors.values, dtype=np.float64))
    if not np.isfinite(norms).all():
        document, _ = _place(vectors, int(np.argmin(np.isfinite(norms))))
        raise InvalidInput(f"{name}[{document}] has a value that is not finite.")
    if np.any(norms == 0):
        document, row = _place(vectors, int(np.argmax(norms == 0)))
        raise InvalidInput(
            f"{name}[{document}] has a vector of zeros (row {row}), which has no direction. Leave out rows "
            "that are padding."
        )
    off = np.abs(norms - 1)
    if not normalize and np.any(off > TOLERANCE):
        first = int(np.argmax(off > TOLERANCE))
        document, row = _place(vectors, first)
        found = f"{name}[{document}] has a vector of length {norms[first]:.4g} (row {row})"
        if normalize is not None:
            raise InvalidInput(
                f"{found}, and an index keeps directions. Give vectors of unit length, or normalize=True to "
                "have them made so."
            )
        logger.warning(
            "%s; an index keeps directions, so %d of %d vectors are made unit length (normalize=True says "
            "that this is meant, normalize=False refuses them).",
            found, np.count_nonzero(off > TOLERANCE), len(norms),
        )  # fmt: skip
    if not np.any(off > _EXACT):
        return vectors
    values = vectors.values / norms[:, None].astype(np.float32)
    return TokenVectors(values, vectors.offsets, vectors.truncated)


def _place(vectors: TokenVectors, token: int) -> tuple[int, int]:
    """Document of a token, and its row there."""
    document = int(np.searchsorted(vectors.offsets, token, side="right")) - 1
    return document, token - int(vectors.offsets[document])
