"""Texts of several requests in runs of a GPU that they share, and what each gets where memory runs out.

Which of them share a run, and how long it is, the encoder decides (`Encoder.vectors_of_many`).
"""

from __future__ import annotations

from collections.abc import Sequence

from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.text import TokenIds
from latebolt.errors import OutOfMemory

# Vectors of a text, float32 [n_kept, dim], or why there are none.
Outcome = Float32 | BaseException


def vectors_together(encoder: Encoder, tokens: Sequence[TokenIds]) -> list[Outcome]:
    """The outcome for each text, in order.

    Where a GPU has no memory for all of them, even in smaller runs, each is tried by itself, so that no
    request fails for the size of another. Vectors may be views of a run's.
    """
    try:
        return list(encoder.vectors_of_many(tokens))
    except OutOfMemory as error:
        if len(tokens) == 1:
            return [error]
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer to all of them
        return [error] * len(tokens)
    return [_alone(encoder, each) for each in tokens]


def _alone(encoder: Encoder, tokens: TokenIds) -> Outcome:
    try:
        return encoder.vectors_of(tokens)
    except BaseException as error:  # noqa: BLE001 - as above
        return error
