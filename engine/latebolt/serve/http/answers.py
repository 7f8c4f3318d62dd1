"""Bodies of answers: token vectors in every type of the contract, matches with their characters, JSON bytes.

Large answers are put together from pieces that are JSON already, one a text.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from starlette.responses import Response

from latebolt.arrays import Float32
from latebolt.hits import TokenMatch

# Digits behind the point: within a unit vector that is finer than float32, and a third shorter than its repr.
_DIGITS: Final = 9


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer; `msgspec.Raw` inside is taken as it is."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def vectors_json(vectors: Float32, types: Sequence[str], alone: bool) -> msgspec.Raw:
    """`embeddings` of one text.

    Args:
        vectors: float32 [n, dim].
        types: of "float", "base64" (each vector's float32, little-endian), "ubinary" (the sign of each
            dimension, positive = 1, eight in a byte, the first in the highest bit) and "binary" (the same
            bytes - 128).
        alone: one type was asked for by its name, so there is no object by type.
    Source: jina.ai/embeddings, `embedding_type`; packing as in sentence_transformers.quantization.
    """
    if alone:
        return msgspec.Raw(msgspec.json.encode(_as_type(vectors, types[0])))
    return msgspec.Raw(msgspec.json.encode({name: _as_type(vectors, name) for name in types}))


def _as_type(vectors: Float32, name: str) -> list[Any]:
    if name == "float":
        return list(np.round(vectors.astype(np.float64), _DIGITS).tolist())
    if name == "base64":
        little = vectors.astype("<f4", copy=False)
        return [base64.b64encode(row.tobytes()).decode("ascii") for row in little]
    packed = np.packbits(vectors > 0, axis=1)
    if name == "ubinary":
        return list(packed.tolist())
    return list((packed.astype(np.int16) - 128).tolist())


def matches_json(query: str, text: str, matches: Sequence[TokenMatch]) -> list[dict[str, Any]]:
    """`matches` of one result: each token of the query, markers included, and what it matched."""
    return [
        {
            "query": _part(query, match.query),
            "document": _part(text, match.document),
            "similarity": match.similarity,
            "telling": match.telling,
        }
        for match in matches
    ]


def _part(text: str, span: tuple[int, int]) -> dict[str, Any] | None:
    start, end = span
    return {"start": start, "end": end, "text": text[start:end]} if start < end else None
