"""Which tokens of each hit a query matched, by the vectors that the index keeps of them.

So a hit's matches add up to its score, and its text is encoded again only where the tokens that were stored
cannot be told by the text: vectors that were pooled or given, or of an encoder with other limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latebolt.alignment import encoded_matches, match_tokens
from latebolt.arrays import Float32
from latebolt.codec.base import Codec
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import Pooling
from latebolt.hits import Hit, TokenMatch
from latebolt.index.search.query import Found
from latebolt.index.store.codecs import check_columns


def match_hits(
    encoder: Encoder,
    query: tuple[str, Float32],
    hits: Sequence[Hit],
    stored: Callable[[int], Float32],
    pooling: Pooling,
) -> list[list[TokenMatch]]:
    """For each hit `match_tokens` of the query with it; empty for one without a text.

    Args:
        query: its text, and its vectors, float32 [n_query, dim].
        stored: the vectors that the index keeps of the hit at a place, see `stored_vectors`.
        pooling: of the texts that were added to the index.
    Raises:
        IndexCorrupt: what is stored of a hit cannot be read.
    """
    text, matrix = query
    query_spans = encoder.spans(text, "query")
    texts = {place: hit.text for place, hit in enumerate(hits) if hit.text}
    spans = dict(zip(texts, encoder.spans_many(list(texts.values()), "document"), strict=True))
    matches: list[list[TokenMatch]] = [[] for _ in hits]
    others = {}
    for place in texts:
        vectors = stored(place)
        # Of an encoder that reads less, a text may have as many tokens as pooling left vectors.
        if len(vectors) == len(spans[place]) and pooling.keeps(len(vectors)):
            matches[place] = match_tokens(matrix, query_spans, vectors, spans[place])
        else:
            others[place] = texts[place]
    fresh = encoded_matches(encoder, (matrix, query_spans), list(others.values()))
    for place, tokens in zip(others, fresh, strict=True):
        matches[place] = tokens
    return matches


def stored_vectors(found: Found, codec_of: Callable[[str | None], Codec]) -> Float32:
    """The vectors of a row as searches see them, float32 [n_tokens, dim].

    Args:
        codec_of: the codec of that name, None for the one of unquantised segments.
    Raises:
        IndexCorrupt: what is stored of it cannot be read.
    """
    segment, row = found.segment, found.row
    check_columns(segment, codec := codec_of(segment.codec))
    tokens = slice(int(segment.offsets[row]), int(segment.offsets[row + 1]))
    vectors = codec.decode({column.name: segment.column(column.name)[tokens] for column in segment.columns})
    segment.check_finite(vectors)
    return vectors
