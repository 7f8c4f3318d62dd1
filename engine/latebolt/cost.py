"""What the token vectors of a corpus take to store, in ours and in other stores, and what that costs a month.

Vectors and the lists that find them are counted; texts, metadata and replicas are the same in every store and
are not. A GB is 1e9 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latebolt.codec.base import BITS
from latebolt.codec.kmeans import default_n_centroids
from latebolt.codec.restore import bytes_per_token_of
from latebolt.errors import InvalidInput
from latebolt.index.format import layout
from latebolt.index.store.list_centroids import tokens_a_list

REFERENCE = "Qdrant float32"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


@dataclass(frozen=True)
class Corpus:
    """How many documents, and vectors a document has on average.

    Raises:
        InvalidInput: a number is not above 0.
    """

    documents: int
    tokens_per_document: float

    def __post_init__(self) -> None:
        if self.documents < 1 or not 0 < self.tokens_per_document < float("inf"):
            raise InvalidInput(
                f"a corpus should have at least one document and more than 0 tokens a document, got "
                f"{self.documents} and {self.tokens_per_document}."
            )

    @property
    def tokens(self) -> int:
        """In all."""
        return max(1, round(self.documents * self.tokens_per_document))


@dataclass(frozen=True)
class Bill:
    """One store at one width: bytes of vectors, of what finds them, and US dollars a month (None: no price).

    saving: bytes of the reference (float32 at the widest width) over these.
    """

    store: str
    dim: int
    bits: int
    vector_bytes: float
    other_bytes: float
    saving: float
    usd_month: float | None
    tokens: int

    @property
    def bytes(self) -> float:
        """In all."""
        return self.vector_bytes + self.other_bytes

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "store": self.store,
            "dim": self.dim,
            "bits": self.bits,
            "bytes_per_token": self.vector_bytes / self.tokens,
            "bytes_per_token_with_lists": self.bytes / self.tokens,
            "gb": self.bytes / 1e9,
            "usd_month": self.usd_month,
            "saving": self.saving,
        }


def ours(corpus: Corpus, dim: int, bits: int) -> tuple[float, float]:
    """(vectors, the rest) of a latebolt index, in bytes.

    Vectors are the codec's own columns. The rest: where each document begins, and, for residual codes, the
    centroids and lists, which have a centroid of bytes each and an entry for each document with a token in
    them, so at most one a token.
    """
    rest = 8.0 * corpus.documents
    if bits < 8:
        rest += corpus.tokens * np.dtype(layout.LISTS_DTYPE).itemsize
        a_list = (
            dim * np.dtype(layout.LIST_CENTROIDS_DTYPE).itemsize + np.dtype(layout.OFFSETS_DTYPE).itemsize
        )
        rest += corpus.tokens / tokens_a_list(corpus.tokens) * a_list
        rest += 4.0 * dim * default_n_centroids(corpus.tokens)
    return bytes_per_token_of(dim, bits, corpus.tokens) * corpus.tokens, rest


def qdrant(corpus: Corpus, dim: int, bits: int, factor: float = 1.0) -> tuple[float, float]:
    """(vectors, the rest) of multivectors in Qdrant, in bytes.

    number of vectors x dim x bytes of a number. Qdrant's guide to capacity (qdrant.tech/documentation,
    "Capacity planning") multiplies by 1.5 for indexes, versions and segments being optimised; the default
    here leaves that out, which is in Qdrant's favour and right for vectors on disk that only rerank.

    Args:
        bits: 32 or 16 a number.
        factor: what to multiply by.
    """
    vectors = float(corpus.tokens) * dim * bits / 8
    return vectors, vectors * (factor - 1)


def plaid(corpus: Corpus, dim: int, bits: int) -> tuple[float, float]:
    """(vectors, the rest) of ColBERTv2's index as PLAID searches it, in bytes.

    A vector is the number of its centroid, int32, and dim x bits / 8 bytes of residual (Santhanam et al.,
    "ColBERTv2", NAACL 2022, section 3.3: 20 or 36 bytes at dim 128). The rest: lists of passages, int32, of
    each centroid, at most an entry a token, and 2 ** floor(log2(16 sqrt(tokens))) centroids in half precision
    (stanford-futuredata/ColBERT, colbert/indexing: collection_indexer.py and codecs/residual_embeddings.py).
    """
    centroids = 2 ** int(np.floor(np.log2(16 * np.sqrt(corpus.tokens))))
    return corpus.tokens * (4.0 + dim * bits / 8), 4.0 * corpus.tokens + 2.0 * dim * centroids


def bills(
    corpus: Corpus,
    dims: Sequence[int] = (128, 64),
    bits: Sequence[int] = (2,),
    price_gb_month: float | None = None,
    quoted: float | None = None,
    qdrant_factor: float = 1.0,
) -> list[Bill]:
    """The bill of each store at each width, widest first.

    Args:
        bits: of our store: 1, 2, 4, 8 or 16. PLAID is shown at those of them it has (1, 2, 4, 8).
        price_gb_month: US dollars for 1e9 bytes and a month.
        quoted: instead of a price, a monthly bill for float32 at the widest of `dims`; the price follows.
        qdrant_factor: see `qdrant`.
    Raises:
        InvalidInput: a width, bits or price that cannot be, or both a price and a quoted bill.
    """
    if not dims or any(dim < 8 or dim % 8 for dim in dims):
        raise InvalidInput(f"dims should be multiples of 8, got {list(dims)}.")
    if not bits or any(each not in BITS for each in bits):
        raise InvalidInput(f"bits should be some of {', '.join(map(str, BITS))}, got {list(bits)}.")
    if price_gb_month is not None and quoted is not None:
        raise InvalidInput("give a price for a GB or a quoted bill, not both: the bill decides the price.")
    for name, value in (("price of a GB", price_gb_month), ("quoted bill", quoted)):
        if value is not None and not 0 <= value < float("inf"):
            raise InvalidInput(f"the {name} should be 0 or more, got {value}.")
    if not 1 <= qdrant_factor < float("inf"):
        raise InvalidInput(f"Qdrant's factor should be at least 1, got {qdrant_factor}.")
    widths = sorted(set(dims), reverse=True)
    reference = sum(qdrant(corpus, widths[0], 32, qdrant_factor))
    price = quoted / reference if quoted is not None else None
    if price_gb_month is not None:
        price = price_gb_month / 1e9
    found = []

    def add(store: str, dim: int, width: int, sizes: tuple[float, float]) -> None:
        usd = None if price is None else sum(sizes) * price
        found.append(Bill(store, dim, width, *sizes, reference / sum(sizes), usd, corpus.tokens))

    for dim in widths:
        add(REFERENCE, dim, 32, qdrant(corpus, dim, 32, qdrant_factor))
        add("Qdrant float16", dim, 16, qdrant(corpus, dim, 16, qdrant_factor))
        for each in bits:
            if each < 16:
                add(f"PLAID {each} bit", dim, each, plaid(corpus, dim, each))
            add(f"latebolt {each} bit", dim, each, ours(corpus, dim, each))
    return found


def parse_count(text: str) -> int:
    """100M, 2.5k, 1_000 or 1,000 as a number; k is a thousand, M a million, B or G a thousand million.

    Raises:
        InvalidInput: it is none of these.
    """
    plain = re.sub(r"(?<=\d)[,_](?=\d)", "", text.strip())
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)([kKmMbBgG]?)", plain)
    if not match:
        raise InvalidInput(f'should be a number such as 250000, 2.5k or 100M, got "{text}".')
    return round(float(match[1]) * _UNITS[match[2].lower()])
