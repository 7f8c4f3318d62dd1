"""Libraries that cluster token vectors and score what lies near: TACHIOM, fast-plaid, xtr-warp-rs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import Contender, Documents, Search, Setting, a_token

NOTHING = np.iinfo(np.uint32).max  # where TACHIOM finds fewer than k
# TACHIOM's quantiser learns from all of so many tokens, as by default, and from a million of more, which
# is plenty for 256 centroids a subspace: it takes 820 bytes a token beside the 600 of everything else.
ALL_LEARNT, SAMPLE = 10_000_000, 1_000_000


def learnt_from(n_tokens: int) -> int:
    """Vectors that its quantiser learns from."""
    return n_tokens if n_tokens <= ALL_LEARNT else SAMPLE


def build_tachiom(documents: Documents, folder: Path, threads: int) -> None:
    """Its defaults: one centroid in 128 tokens, shared out by vocabulary ids."""
    import tachiom

    folder.mkdir(parents=True)
    assert documents.ids is not None
    halves = np.asarray(documents.values, np.float16)  # not copied where they are that already
    ids = np.asarray(documents.ids, np.uint32)
    lengths = np.diff(documents.offsets).astype(np.int32)
    index = tachiom.Tachiom.build_from_arrays(
        halves.view(np.uint16), ids, lengths, pq_sample_size=learnt_from(len(halves))
    )
    index.save(str(folder / "index.bin"))


def open_tachiom(documents: Documents, folder: Path, threads: int) -> Search:
    """One query is one thread's; a batch is shared out by itself."""
    import tachiom

    index = tachiom.Tachiom.load(str(folder / "index.bin"))

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        if len(queries) == 1:
            found = index.search(queries[0], k, **setting)[1][None]
        else:
            offsets = np.concatenate([[0], np.cumsum([len(query) for query in queries])]).astype(np.uint64)
            tokens = np.concatenate(queries)
            found = index.batch_search(
                tokens, len(queries), k, offsets=offsets, num_threads=threads, **setting
            )[1]
        return [[int(i) for i in row if i != NOTHING] for row in found]

    return search


def _gathered(centroids: int, beam: int, documents: int, alpha: float) -> dict[str, Any]:
    return {"k_centroids": centroids, "ef_search": beam, "k_docs_to_score": documents, "alpha": alpha}


# The default, the three that its authors publish for MS MARCO, and faster and more thorough ones around them.
TACHIOM = {
    "20 centroids, 500 documents": _gathered(20, 30, 500, 0.45),
    "5 centroids, 100 documents": _gathered(5, 8, 100, 0.45),
    "10 centroids, 100 documents": _gathered(10, 15, 100, 0.45),
    "20 centroids, 250 documents": _gathered(20, 30, 250, 0.45),
    "30 centroids, 250 documents": _gathered(30, 45, 250, 0.35),
    "40 centroids, 500 documents": _gathered(40, 60, 500, 0.35),
    "80 centroids, 1000 documents": _gathered(80, 120, 1000, 0.45),
    "160 centroids, 2000 documents": _gathered(160, 240, 2000, 0.45),
}


def build_fast_plaid(documents: Documents, folder: Path, threads: int) -> None:
    """4 bits, by default."""
    import torch
    from fast_plaid.search import FastPlaid

    torch.set_num_threads(threads)
    FastPlaid(index=str(folder), device="cpu").create([torch.from_numpy(one) for one in documents.each()])


def open_fast_plaid(documents: Documents, folder: Path, threads: int) -> Search:
    """Takes queries of any number."""
    import torch
    from fast_plaid.search import FastPlaid

    torch.set_num_threads(threads)
    index = FastPlaid(index=str(folder), device="cpu")

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        asked = [torch.from_numpy(query) for query in queries]
        found = index.search(asked, top_k=k, show_progress=False, **setting)
        return [[int(i) for i, _ in hits] for hits in found]

    return search


def build_xtr_warp(documents: Documents, folder: Path, threads: int) -> None:
    """4 bits, by default."""
    import torch
    from xtr_warp.search import XTRWarp

    torch.set_num_threads(threads)
    matrices = [torch.from_numpy(one) for one in documents.each()]
    XTRWarp(index=str(folder)).create(matrices, device="cpu", show_progress=False)


def open_xtr_warp(documents: Documents, folder: Path, threads: int) -> Search:
    """Takes queries of any number; what is not set it chooses by the index and the query."""
    import torch
    from xtr_warp.search import XTRWarp

    torch.set_num_threads(threads)
    index = XTRWarp(index=str(folder)).load(device="cpu")

    def search(queries: Sequence[np.ndarray], k: int, setting: Setting) -> list[list[int]]:
        asked = [torch.from_numpy(query) for query in queries]
        found = index.search(asked, top_k=k, num_threads=threads, show_progress=False, **setting)
        return [[int(i) for i, _ in hits] for hits in found]

    return search


CONTENDERS = (
    Contender(
        "TACHIOM",
        "tachiom",
        TACHIOM,
        build_tachiom,
        open_tachiom,
        building=lambda n: 0.2e9 + 610 * n + 850 * learnt_from(n),
        searching=a_token(60),
        needs_ids=True,
        versions=("tachiom",),
    ),
    Contender(
        "fast-plaid 4 bit",
        "fast_plaid",
        {"default": {}, "32 probes": {"n_ivf_probe": 32}, "1024 scored": {"n_full_scores": 1024}},
        build_fast_plaid,
        open_fast_plaid,
        building=a_token(1600, 1.5e9),
        searching=a_token(700, 1.5e9),
        slow=True,
        versions=("fast-plaid", "torch"),
    ),
    Contender(
        "xtr-warp-rs 4 bit",
        "xtr_warp",
        {"default": {}, "8 probes": {"nprobe": 8}, "32 probes": {"nprobe": 32, "bound": 1024}},
        build_xtr_warp,
        open_xtr_warp,
        building=a_token(1600, 3e9),
        searching=a_token(250, 1.5e9),
        slow=True,
        versions=("xtr-warp-rs", "torch"),
    ),
)
