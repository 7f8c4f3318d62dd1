"""XLM-RoBERTa's tokenizer, put together from its pieces and what normalises a text before they are looked up.

Checkpoints bring the pieces in a sentencepiece model, the multilingual model's recipe in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")  # the ids 0 to 3, whatever a model's own first pieces are
_BLANK: Final = "▁"  # what stands for one in pieces


def tokenizer(
    pieces: Sequence[tuple[str, float]], normalizer: normalizers.Normalizer, *, split_blanks: bool
) -> Tokenizer:
    """The tokenizer; which of its pieces are special tokens is left to who asked.

    Args:
        pieces: each with its logarithmic probability, `SPECIAL` first.
        split_blanks: part words at white space of any kind and length; else the normalizer has made it one
            blank.
    """
    made = Tokenizer(models.Unigram(list(pieces), unk_id=SPECIAL.index("<unk>"), byte_fallback=False))
    made.normalizer = normalizer
    metaspace = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always")
    made.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if split_blanks else metaspace
    )
    made.decoder = decoders.Metaspace(replacement=_BLANK, prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("<s>", "</s>")],
    )
    return made
