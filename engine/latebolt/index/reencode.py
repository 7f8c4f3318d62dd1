"""Copies an index by encoding its texts again: into another model, another width, other bits, other
passages, other pooling.

The codes of the old index are not looked at, so nothing of their rounding is in the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.index.filters.parse_dict import Where
from latebolt.index.index import Index

_MOST_NAMED: Final = 5  # of the documents without a text


@dataclass(frozen=True)
class Reencoded:
    """The new index, and what was done for it.

    Args:
        documents: that are in it.
        textless: that are not, for want of a text.
        truncated: of the documents, those that have an end that the model did not read.
    """

    index: Index
    documents: int
    textless: int
    truncated: int


def reencode(
    source: Index,
    path: str | Path,
    encoder: Encoder,
    bits: int,
    passage_tokens: int | None = None,
    passage_overlap: int | None = None,
    where: Where | None = None,
    skip_textless: bool = False,
    show_progress: bool = False,
    late_chunking: bool = False,
    pool_factor: int = 1,
    max_vectors: int | None = None,
) -> Reencoded:
    """Make an index of another's documents, in one commit: whatever stops it leaves nothing behind.

    Ids, texts and metadata are those of the other, as they were when it began. Where passages stand in files
    (`Hit.place`) is not known of passages that are cut anew. Codes are made where the encoder runs.

    Args:
        path, encoder, bits, passage_tokens, passage_overlap, late_chunking, pool_factor, max_vectors: see
            `Index.create`.
        where: only documents that pass the filter.
        skip_textless: leave out documents that have vectors only; otherwise they are refused.
    Raises:
        IndexExists: there is something at `path`.
        InvalidInput: a setting does not fit, or documents have no text; says how many, and names some.
    """
    index = Index.create(
        path,
        encoder,
        bits,
        passage_tokens=passage_tokens,
        passage_overlap=passage_overlap,
        with_first_add=True,
        late_chunking=late_chunking,
        device=encoder.device,
        pool_factor=pool_factor,
        max_vectors=max_vectors,
    )
    textless = [each.id for each in source.documents(where) if each.text is None]  # before hours of work
    if textless and not skip_textless:
        raise InvalidInput(_refusal(source, textless))

    def rows() -> Iterator[tuple[Any, ...]]:
        for each in source.documents(where):
            if each.text is not None:
                yield each.id, each.text, each.metadata
            elif not skip_textless:  # added since
                raise InvalidInput(_refusal(source, [each.id]))

    counts = index.sync(rows(), show_progress=show_progress)
    return Reencoded(index, counts.added, len(textless), counts.truncated)


def _refusal(source: Index, ids: list[str]) -> str:
    named = ", ".join(repr(id) for id in ids[:_MOST_NAMED])
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    have = "1 document has" if len(ids) == 1 else f"{len(ids)} documents have"
    return (
        f"{source.path}: {have} vectors and no text that could be encoded: {named}{more}. Leave them out "
        "(--skip-textless, skip_textless=True), or give them texts."
    )
