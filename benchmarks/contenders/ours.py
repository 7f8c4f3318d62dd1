"""Ours: indexes of 2 and 4 bits, pruned and exhaustive, and the exact kernel over float16 vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from contenders.base import Contender, Documents, Search, Setting, a_token

# More are encoded part by part, with a codec learnt from a sample of all: `add_vectors` holds all as float32.
AT_ONCE = 8_000_000
SAMPLE, PART = (
    196_608,
    20_000,
)  # tokens that the codec learns from; documents of a part, as `scale.py` has them


def built_with(bits: int) -> Contender:
    """An index of so many bits, with its defaults: how much is searched, it finds out by itself."""

    def build(documents: Documents, folder: Path, threads: int) -> None:
        from latebolt import Index, TokenVectors

        if documents.n_tokens > AT_ONCE:
            build_in_parts(documents, folder, bits)
            return
        index = Index.create(folder, None, bits=bits, dim=documents.dim)
        ids = [str(i) for i in range(len(documents))]
        index.add_vectors(ids, TokenVectors(np.asarray(documents.values), documents.offsets))

    def open_(documents: Documents, folder: Path, threads: int) -> Search:
        from latebolt import Index

        index = Index.open(folder)

        def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
            found = index.search_vectors_many(list(queries), k, **setting)
            return [[int(hit.id) for hit in hits] for hits in found]

        return search

    return Contender(
        f"latebolt {bits} bit",
        "",
        {"default": {}, "exhaustive": {"exhaustive": True}},
        build,
        open_,
        building=lambda n: 0.5e9 + 700 * n if n <= AT_ONCE else 2.5e9 + 20 * n,
        searching=a_token(16, 0.5e9),
    )


def build_in_parts(documents: Documents, folder: Path, bits: int) -> None:
    """An index of vectors that memory does not hold, in one commit."""
    from latebolt.codec.residual_codec import ResidualCodec
    from latebolt.index.documents.checked import check_documents
    from latebolt.index.store.store import Column, Store

    rows = np.random.default_rng(0).choice(documents.n_tokens, min(SAMPLE, documents.n_tokens), replace=False)
    sample = documents.values[np.sort(rows)].astype(np.float32)
    codec = ResidualCodec.train(sample, bits, documents.n_tokens)
    with Store.create(folder, dim=documents.dim, bits=bits).writer() as writer:
        writer.set_codec(*codec.state())
        segment = writer.new_segment([Column(*spec) for spec in codec.columns])
        for first, last in _parts(len(documents)):
            offsets = documents.offsets[first : last + 1]
            values = documents.values[offsets[0] : offsets[-1]].astype(np.float32)
            names = [str(i) for i in range(first, last)]
            checked = check_documents(len(names), names, None, None)
            segment.append(checked, np.diff(offsets), codec.encode(values))
        segment.finish()
        writer.commit()


def _parts(n: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + PART, n)) for first in range(0, n, PART))


def open_float16(documents: Documents, folder: Path, threads: int) -> Search:
    """MaxSim of all, over the mapped file."""
    from latebolt.kernels.maxsim import maxsim_arrays

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        return [
            best(maxsim_arrays(query, documents.values, documents.offsets, n_threads=threads), k)
            for query in queries
        ]

    return search


def best(scores: np.ndarray, k: int) -> list[int]:
    """The rows of the k largest scores, the first of equal ones before others."""
    k = min(k, len(scores))
    some = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return some[np.argsort(-scores[some], kind="stable")][:k].tolist()


CONTENDERS = (
    built_with(2),
    built_with(4),
    Contender(
        "latebolt exact, vectors as they are",
        "",
        {"default": {}},
        None,
        open_float16,
        building=a_token(0),
        searching=a_token(4),
    ),
)
