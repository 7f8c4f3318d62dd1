"""Cuts documents into chunks of whole sentences, which is what RAGatouille does before it indexes them.

RAGatouille takes llama-index's SentenceSplitter with another tokenizer than the model's; here tokens are the
model's own, so that no chunk is cut off when it is encoded. Source of the surface: ragatouille/data of 0.0.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.index.documents.passages import Cutting, cut_text

# A chunk as splitters give it: {"document_id": ..., "content": ...}.
Chunk = dict[str, str]
Splitter = Callable[..., list[Chunk]]
Preprocessor = Callable[[Any, list[str]], Any]

# What is before the first letter of a sentence: an end mark with what closes around it and white space, an
# end mark of a script without spaces, or a line break. Rows of marks and of white space are taken whole and
# only from where they begin, so that a row without an end (dots of a table of contents) is read once.
_BREAK = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+\s++|[。！？｡।؟]++[”’」』）]*+\s*+|(?<!\s)[^\S\n]*+\n\s*+"
)


def sentence_starts(text: str) -> list[int]:
    """Characters that sentences and lines of a text begin with, ascending; 0 is the first."""
    return [0, *(match.end() for match in _BREAK.finditer(text) if match.end() < len(text))]


def sentence_splitter(
    documents: Sequence[str],
    document_ids: Sequence[str],
    chunk_size: int = 256,
    *,
    encoder: Encoder | None = None,
) -> list[Chunk]:
    """Documents in chunks that end at sentences where one fits, else between words.

    Chunks share whole sentences of up to a quarter of `chunk_size`, at most 64 tokens. White space at the
    ends is left out; a document of white space gives one empty chunk.

    Args:
        chunk_size: tokens of a chunk, the model's markers not counted.
        encoder: whose tokens they are; the built-in model's by default.
    Raises:
        InvalidInput: a document is no str, or there is not one id a document.
    """
    if len(documents) != len(document_ids):
        raise InvalidInput(
            f"document_ids should have one entry a document, {len(documents)} in all, "
            f"got {len(document_ids)}."
        )
    cutting = Cutting(chunk_size, min(chunk_size // 4, 64))
    counter = encoder or Encoder.load("starter")
    chunks: list[Chunk] = []
    for text, name in zip(documents, document_ids, strict=True):
        [tokens] = counter.text_tokens([text])
        first = set(_first_tokens(tokens.spans, sentence_starts(text)))
        sentences = [i in first for i in range(len(tokens.spans))]
        spans = cut_text(tokens.spans, tokens.begins, cutting, sentences) or [(0, len(text))]
        chunks += [{"document_id": name, "content": text[start:end].strip()} for start, end in spans]
    return chunks


def _first_tokens(spans: Sequence[tuple[int, int]], starts: Sequence[int]) -> list[int]:
    """The first token at or after each of these ascending characters."""
    found, token = [], 0
    for start in starts:
        while token < len(spans) and spans[token][0] < start:
            token += 1
        if token < len(spans):
            found.append(token)
    return found


def chunks_of(
    documents: Sequence[str],
    document_ids: Sequence[str],
    splitter: Splitter | None,
    preprocessing: Preprocessor | Sequence[Preprocessor] | None,
    chunk_size: int,
) -> list[Chunk]:
    """Documents as they are indexed: split, then preprocessed.

    Args:
        splitter: called with (documents, ids, chunk_size=...); None leaves documents whole.
        preprocessing: called, one after another, with (chunks, ids); without a splitter the first gets the
            documents themselves.
    Raises:
        InvalidInput: what comes out is no list of {"document_id", "content"}.
    """
    given: Any = list(documents)
    names = list(document_ids)
    if splitter is not None:
        given = splitter(given, names, chunk_size=chunk_size)
    elif preprocessing is None:
        given = [{"document_id": n, "content": text} for n, text in zip(names, documents, strict=True)]
    functions = [preprocessing] if callable(preprocessing) else preprocessing or ()
    for function in functions:
        given = function(given, names)
    for position, chunk in enumerate(given):
        if not (isinstance(chunk, dict) and isinstance(chunk.get("content"), str) and "document_id" in chunk):
            raise InvalidInput(
                f'chunk {position} should be {{"document_id": ..., "content": str}}, got '
                f"{type(chunk).__name__}. Check document_splitter_fn and preprocessing_fn."
            )
    return list(given)
