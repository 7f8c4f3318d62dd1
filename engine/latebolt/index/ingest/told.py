"""What is told of an addition once it is committed."""

from __future__ import annotations

from latebolt.encoder import truncation
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.tally import Tally


def warn_of_truncation(encoder: Encoder, tally: Tally) -> None:
    """A warning where texts were not read to their end; see `truncation.warn`."""
    rules = encoder.contract.document
    limit, most = rules.max_tokens, encoder.contract.most_tokens(rules)
    longer = f", or with an encoder of with_lengths(document=...), up to {most}" if limit < most else ""
    way_out = f"Make the index with passage_tokens=..., which cuts long texts into passages{longer}."
    truncation.warn(tally.n_texts, tally.n_truncated, "document", limit, way_out)
