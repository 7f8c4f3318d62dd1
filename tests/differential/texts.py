"""Texts that hurt: what a tokenizer, a length or a rule about tokens may treat in a way of its own."""

from __future__ import annotations

TEXTS = [
    "how do i unpack a zip file?",
    "",
    " ",
    "a",
    "?!.,;",
    "...",
    "[MASK]",
    "what [MASK] is [SEP] a [CLS] token [PAD] here [UNK]",
    "<mask> <pad> </s> <s> <unk>",
    "[unused0] [unused1] [Q] [D] query: document:",
    "[Q] a [D] b",
    "日本語のテキスト と 中文",
    "naïve café, ÉCOLE Zürich İstanbul ΟΔΟΣ straße",
    "emoji 🙂👩‍👩‍👧 and \u200d joiners",
    "line one\nline two\r\n\ttabbed  twice   blanks",
    "  leading and trailing  ",
    "\u00a0\u2003odd blanks\u3000\x1f",
    "MiXeD Case WORDS",
    "don't e-mail me@x.org: 3,50 $ (50%)",
    "nul \0 and soft\u00adhyphen and \ufeff mark",
    "words " * 4,
    "the same words again, and then some more of them. " * 3,
    "long " * 150,
    "x" * 200,
    "שלום עולم السلام",
    "query: what is a late-interaction model",
]
