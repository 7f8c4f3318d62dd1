"""Libraries that hold all vectors in memory and score every document: NumKong, fast-maxsim, Col-Bandit.

They write no index, or one that is read whole; a search begins by packing the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from contenders.base import Contender, Documents, Search, Setting, a_token


def _best(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()


def open_numkong(documents: Documents, folder: Path, threads: int) -> Search:
    """Each document packed; a call a document, as it has no other, over as many parts of them as threads."""
    import numkong

    def pack(matrix: np.ndarray) -> object:
        return numkong.maxsim_pack(numkong.Tensor(matrix).astype("bfloat16"), dtype="bf16")

    packed = [pack(one) for one in documents.each()]
    parts = [packed[a:b] for a, b in pairwise(np.linspace(0, len(packed), threads + 1).astype(int))]

    def distances(query: object, part: list[object]) -> list[float]:
        return [numkong.maxsim_packed(query, one) for one in part]

    def score(matrix: np.ndarray, each: Callable[..., object]) -> np.ndarray:
        query = pack(matrix)
        return -np.array(
            [value for part in each(lambda some: distances(query, some), parts) for value in part]
        )

    pool = ThreadPoolExecutor(threads)
    over = pool.map if threads > 1 else map

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        if len(queries) == 1:
            return [_best(score(queries[0], over), k)]
        return list(over(lambda query: _best(score(query, map), k), queries))

    return search


def open_fast_maxsim(documents: Documents, folder: Path, threads: int) -> Search:
    """A list of float32 matrices, which it scores in one call a query."""
    import fast_maxsim

    matrices = list(documents.each())

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        return [_best(fast_maxsim.maxsim_scores_variable(query, matrices), k) for query in queries]

    return search


def build_colbandit(documents: Documents, folder: Path, threads: int) -> None:
    """Its file: bytes and float32 of every token."""
    from colbandit import ColBandit

    folder.mkdir(parents=True)
    ColBandit().index(documents.each()).save(str(folder / "index.npz"))


def open_colbandit(documents: Documents, folder: Path, threads: int) -> Search:
    """One query is one thread's; several run beside each other, as its own threads share out queries of which
    its interface takes one."""
    from colbandit import ColBandit

    index = ColBandit.load(str(folder / "index.npz"))
    pool = ThreadPoolExecutor(threads)

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        index.alpha_ef = setting["alpha_ef"]

        def one(query: np.ndarray) -> list[int]:
            return [int(i) for i in index.search(query, k)[0]]

        return list((pool.map if len(queries) > 1 else map)(one, queries))

    return search


CONTENDERS = (
    Contender(
        "NumKong bf16",
        "numkong",
        {"default": {}},
        None,
        open_numkong,
        building=a_token(0),
        searching=a_token(520),
        versions=("numkong",),
    ),
    Contender(
        "fast-maxsim",
        "fast_maxsim",
        {"default": {}},
        None,
        open_fast_maxsim,
        building=a_token(0),
        searching=a_token(600),
        versions=("fast-maxsim",),
    ),
    Contender(
        "Col-Bandit",
        "colbandit",
        {f"alpha_ef {alpha}": {"alpha_ef": alpha} for alpha in (0.2, 0.1, 0.5, 1.0)},
        build_colbandit,
        open_colbandit,
        building=a_token(3200),
        searching=a_token(1500),
        versions=("colbandit",),
    ),
)
