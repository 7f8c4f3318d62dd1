"""A collection's documents as token vectors: of each as a whole, or of its passages, whose best one counts.

Passages are cut as an index cuts them, and encoded by themselves or within the text around them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.encoder.encoder import Encoder
from latebolt.evaluate.cache import Encodings
from latebolt.evaluate.collection import Collection
from latebolt.index.documents.passages import Cutting
from latebolt.index.ingest.sources import one_batch, rows_of
from latebolt.values import TokenVectors


class Encoded(NamedTuple):
    """Token vectors of documents, or of passages, where `firsts` are the rows of each document's first."""

    vectors: TokenVectors
    firsts: Int64 | None = None

    def of_documents(self, scores: Float32) -> Float32:
        """The score of each document, that of its best passage."""
        if self.firsts is None:
            return scores
        best: npt.NDArray[np.float32] = np.maximum.reduceat(scores, self.firsts)
        return best


def encoded(
    collection: Collection,
    encoder: Encoder,
    encodings: Encodings,
    cutting: Cutting | None,
    show_progress: bool = False,
) -> Encoded:
    """The documents, in order."""
    texts = list(collection.documents.values())
    if cutting is None:
        return Encoded(encodings.encode(encoder, texts, "document", show_progress))
    rows = rows_of(one_batch(len(texts), list(collection.documents), texts, None), encoder, cutting)
    if rows.windows is None:
        vectors = encodings.encode(encoder, rows.texts, "document", show_progress)
    else:
        windows = [window.text for window in rows.windows]
        vectors = encodings.encode_parts(
            encoder, windows, [window.parts for window in rows.windows], show_progress
        )
    return Encoded(vectors, np.flatnonzero(np.array(rows.passages) == 0))
