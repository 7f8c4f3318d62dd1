"""Corpora of token vectors that behave as those of real text do, for tests of what a search finds.

Words are drawn by Zipf's law; every occurrence of a word is moved by its document and by chance, so that a
rare word's occurrences lie in several cells, among other words. Queries are words with a marker on each side.
"""

from __future__ import annotations

import copy

import numpy as np

from latebolt import Index, TokenVectors
from latebolt.index.documents.checked import check_documents
from latebolt.index.ingest import addition, sources

DIM = 32
N_WORDS = 4000


class WordCorpus:
    """Documents and queries of made words.

    Args:
        n_documents: documents, or passages where they are cut.
        lengths: least and most words a document.
    """

    def __init__(self, n_documents: int, lengths: tuple[int, int] = (10, 60), seed: int = 0) -> None:
        self._rng = rng = np.random.default_rng(seed)
        themes = self._unit(40)
        self._theme_of = rng.integers(0, 40, N_WORDS)
        words = self._unit(N_WORDS) + 0.7 * themes[self._theme_of]
        self._words = words / np.linalg.norm(words, axis=1, keepdims=True)
        self._markers = self._unit(2)
        chance = np.cumsum(1 / np.arange(3, N_WORDS + 3))
        chance /= chance[-1]
        counts = rng.integers(*lengths, n_documents)
        parts = []
        for n in counts:
            theme = rng.integers(0, 40)
            words = chance.searchsorted(rng.random(int(n)), side="right")
            context = self._unit(1) + themes[theme]
            own = self._words[words] + 0.35 * context + 0.6 * self._unit(int(n))
            around = self._markers + 0.5 * context + 0.2 * self._unit(2)
            parts.append(np.concatenate([around[:1], own, around[1:]]))
        self.matrices = [self._scaled(part) for part in parts]

    def vectors(self, start: int = 0, stop: int | None = None) -> TokenVectors:
        """Those of some documents."""
        return TokenVectors.from_matrices(self.matrices[start:stop])

    def again(self) -> WordCorpus:
        """The same documents, asked the same from the beginning."""
        other = copy.copy(self)
        other._rng = copy.deepcopy(self._rng)
        return other

    def queries(self, n_words: int, n: int) -> list[np.ndarray]:
        """n queries of so many words, mostly rare ones."""
        found = []
        for _ in range(n):
            words = self._rng.integers(N_WORDS // 20, N_WORDS, n_words)
            own = self._words[words] + 0.25 * self._unit(n_words)
            around = self._markers + 0.3 * self._unit(2)
            found.append(self._scaled(np.concatenate([around[:1], own, around[1:]])))
        return found

    def _unit(self, n: int) -> np.ndarray:
        return self._scaled(self._rng.standard_normal((n, DIM)))

    @staticmethod
    def _scaled(values: np.ndarray) -> np.ndarray:
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def add_passages(
    index: Index, vectors: TokenVectors, ids: list[str], passages: list[int], texts: list[str] | None = None
) -> None:
    """Passages with vectors of the test's choice, which no text would give."""
    with index._store.writer() as writer:
        written = addition.Addition(writer, None)
        documents = check_documents(len(ids), ids, texts, None)
        batch = sources.Batch(0, documents, passages=passages)
        written.add(batch, sources.GivenVectors(vectors))
        written.finish()
        writer.commit()
