"""The baseline every model has to beat: BM25 by bm25s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from latebolt.errors import RuntimeUnavailable
from latebolt.evaluate.collection import Collection
from latebolt.evaluate.measures import DEPTH, Run
from latebolt.index.documents.words import words_of

# Labels for which bm25s has a list of stop words.
_STOP_WORDS = {"en", "de", "nl", "fr", "es", "pt", "it", "ru", "sv", "no", "tr", "da"}
# Thai to Burmese, kana, Chinese characters: written without spaces.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def bm25_run(collection: Collection) -> Run:
    """BM25 with its usual settings (bm25s: lucene, k1 1.5, b 0.75); documents without a word are no hits.

    Stop words are those of the collection's label where it is a language bm25s knows, else English ones.
    Text written without spaces would be one word a sentence to bm25s; where most queries are such, the words
    are those of our own word index (pairs of neighbouring characters).

    Raises:
        RuntimeUnavailable: bm25s is not installed.
    """
    try:
        import bm25s
    except ImportError as error:
        raise RuntimeUnavailable("bm25s is not installed. Run \"pip install 'latebolt[eval]'\".") from error
    names, queries = list(collection.documents), list(collection.queries.values())
    label = collection.label.lower()
    unspaced = sum(bool(_UNSPACED.search(query)) for query in queries) * 2 > len(queries)

    def words(texts: Sequence[str]) -> Any:
        if unspaced:
            return [words_of(text) for text in texts]
        stop_words = label if label in _STOP_WORDS else "en"
        return bm25s.tokenize(list(texts), stopwords=stop_words, show_progress=False)

    retriever = bm25s.BM25()
    documents = words(list(collection.documents.values()))
    if not (any(documents) if unspaced else documents.vocab.keys() - {""}):
        return {query: {} for query in collection.queries}  # nothing that BM25 could find
    retriever.index(documents, show_progress=False)
    found, scores = retriever.retrieve(words(queries), k=min(DEPTH, len(names)), show_progress=False)
    return {
        query: {names[i]: float(s) for i, s in zip(found[n], scores[n], strict=True) if s > 0}
        for n, query in enumerate(collection.queries)
    }
