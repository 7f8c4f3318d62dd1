"""Which matches are no reasons? Of the tokens of questions, those left out, by kind of word and by rule.

Each question is asked of an index of 400 passages and its first hit explained. A match is left out where the
token's word stands in a fifth of the passages, a single Chinese or Japanese character in half ("common"), or
where it does not stand out from the rest of the text. What is a function word is said by a list here, which
the rules know nothing of: articles, particles, prepositions, pronouns, auxiliaries, and words that ask. "in
the text": other words that the hit itself holds, whose loss is felt. Needs the collections at LATEBOLT_DATA.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, data_folder, record
from latebolt import Encoder, Index
from latebolt.caches import cache_folder
from latebolt.evaluate import Collection, read_collection
from latebolt.evaluate.cache import Encodings
from latebolt.hits import TokenMatch
from latebolt.index.documents.words import word_spans, words_of
from latebolt.index.search import common_words
from latebolt_export.judge.confidence import part_of

ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with what which who whom whose when where why how did do does done has have had "
    "were been being from than so can could would should may might its his her he she him we you your our us "
    "i me my s"
)
JAPANESE = (
    "は が の を に で と も か へ や から まで より な た だ です ます でし まし し て い る れ さ れる "
    "せる その この どの 何 いつ どこ 誰 だれ なに なん という とは には では ある いる する した された "
    "している ですか"
)
CHINESE = (
    "的 是 在 了 和 與 及 之 於 為 何 什麼 什 麼 哪 哪個 哪裡 哪些 誰 多少 幾 嗎 被 有 這 那 個 由 以 請問 "
    "請 何時 如何 怎麼 何者 而 其 對 到 從 中 下列 為何 因 所 將 也 都 就"
)
ASKED = {
    "starter": {"squad": ENGLISH, "pubmedqa": ENGLISH},
    "multilingual": {"squad": ENGLISH, "jsquad": JAPANESE, "drcd": CHINESE},
}
QUESTIONS = 200


def judge(collection: Collection, words: str, encoder: Encoder, encodings: Encodings) -> dict[str, Any]:
    """Shares of tokens whose match is left out."""
    function_words = set(words.split())
    documents = encodings.encode(encoder, list(collection.documents.values()), "document")
    kinds: dict[str, list[tuple[bool, bool]]] = {"function words": [], "others": [], "in the text": []}
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", encoder)
        index.add_vectors(list(collection.documents), documents, list(collection.documents.values()))
        for query in collection.queries.values():
            found = index.search(query, 1, explain=True)
            [hit], [matches] = found.hits, found.tokens
            held = set(words_of(hit.text or ""))
            common = common_matches(index, query, matches)
            for match, is_common in zip(matches, common, strict=True):
                word = word_at(query, match)
                if not re.search(r"\w", word):
                    continue
                fate = is_common, not match.telling
                kind = "function words" if word.lower() in function_words else "others"
                kinds[kind].append(fate)
                if kind == "others" and set(words_of(word)) <= held:
                    kinds["in the text"].append(fate)
    row: dict[str, Any] = {}
    for kind, fates in kinds.items():
        shares = np.array(fates).mean(axis=0)
        row |= {f"{kind}: tokens": len(fates), f"{kind}: common": float(shares[0])}
        row |= {f"{kind}: left out": float(shares[1])}
    return row


def common_matches(index: Index, query: str, matches: list[TokenMatch]) -> list[bool]:
    """Of each match whether its word is common, whatever else it is."""
    from latebolt.index.search.bm25 import count_words, word_shares

    shares = word_shares(
        count_words(index._store.snapshot().segments, query), query, common_words.LEAST_TEXTS
    )
    telling = [match._replace(telling=True) for match in matches]
    return [not match.telling for match in common_words.without_common(query, telling, shares)]


def word_at(query: str, match: TokenMatch) -> str:
    """The token's word where words stand apart, else the token itself; "" for a marker."""
    start, end = match.query
    for word, (first, last) in word_spans(query):
        if word.isascii() and first < end and start < last:
            return word
    return query[start:end].strip()


def main() -> None:
    """Every model on each of its languages."""
    given = arguments(__doc__)
    encodings, rows = Encodings(None if given.quick else cache_folder("eval")), []
    for model, asked in list(ASKED.items())[: 1 if given.quick else None]:
        encoder = Encoder.load(model, threads=given.threads)
        for name, words in asked.items():
            size = (80, 20) if given.quick else (400, QUESTIONS)
            collection = part_of(read_collection(data_folder() / name), *size)
            rows.append({"model": model, "collection": name, **judge(collection, words, encoder, encodings)})
    record("reasons", rows, quick=given.quick)


if __name__ == "__main__":
    main()
