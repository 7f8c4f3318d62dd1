"""Documents of several topics and queries of one: the mean of such a document is far from any of them, and
what a first stage loses shows on few documents."""

from __future__ import annotations

import numpy as np

from latebolt import TokenVectors

DIM = 32


def topics(n_documents: int, n_queries: int, seed: int = 1) -> tuple[TokenVectors, TokenVectors]:
    """Token vectors of documents, of 6 topics out of 60, and of queries, of one topic each."""
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((60, DIM)))

    def some(topic: int, n: int, noise: float) -> np.ndarray:
        return _unit(centres[topic] + noise * _unit(rng.standard_normal((n, DIM))))

    documents = [
        np.concatenate([some(t, int(rng.integers(1, 4)), 0.9) for t in rng.choice(60, 6, replace=False)])
        for _ in range(n_documents)
    ]
    queries = [some(int(rng.integers(60)), 5, 0.9) for _ in range(n_queries)]
    return TokenVectors.from_matrices(documents), TokenVectors.from_matrices(queries)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)
