"""Where a copy of an index has its token vectors from: the texts, encoded again, or what the codes hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from latebolt.arrays import Float32
from latebolt.index.index import Index

VectorsFrom = Literal["texts", "codes"]

# Below this mean cosine, what an index holds was not encoded from the text beside it: even at 1 bit a
# dimension, codes are nearer than that to the vectors they were made of.
_SAME: Final = 0.6


def default_vectors(index: Index) -> VectorsFrom:
    """Where token vectors are best had from: "texts" where encoding again gives better ones than the codes.

    That is where the index has a model and keeps 1, 2 or 4 bits a dimension. A copy in Qdrant holds floats
    anyway, and what codes have lost would be lost for good.
    """
    info = index.info()
    return "texts" if info["model"] is not None and info["bits"] < 8 else "codes"


def copied_vectors(
    index: Index, source: str, texts: Sequence[str | None], stored: list[Float32]
) -> tuple[list[Float32], int]:
    """Token vectors that a copy has: the encoder's, where what the index holds was encoded from the text.

    Args:
        source: "texts" or "codes".
        texts, stored: of the same documents.
    Returns:
        One matrix a document, and how many are the encoder's.
    """
    given = {i: text for i, text in enumerate(texts) if text is not None}
    if source == "codes" or not given:
        return stored, 0
    matrices, n_encoded = list(stored), 0
    info = index.info()
    encoded = index.encoder.encode_documents(
        list(given.values()), pool_factor=info["pool_factor"], max_vectors=info["max_vectors"]
    )
    for i, matrix in zip(given, encoded, strict=True):
        if _are_same(matrix, stored[i]):
            matrices[i] = matrix
            n_encoded += 1
    return matrices, n_encoded


def _are_same(encoded: Float32, stored: Float32) -> bool:
    if encoded.shape != stored.shape or not len(stored):
        return False
    return float((encoded * stored).sum(axis=1).mean()) > _SAME
