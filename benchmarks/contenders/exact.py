"""What exact MaxSim finds, computed once for all contenders."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from contenders.base import Documents
from contenders.ours import best

TIE = 1e-5  # of a score, which sums of float32 in another order may differ by
# Of each query of a group: the documents that may be first, and those that may be among the first k.
Exact = dict[str, list[tuple[set[int], set[int]]]]


def exact_answers(documents: Documents, groups: dict[str, list[np.ndarray]], k: int) -> Exact:
    """Of each query, the documents that are first and those of the first k, with all that tie with the last.

    By our kernel over float16, which is held to NumPy before; kept in the folder, under a digest of what was
    asked of what.
    """
    from latebolt.kernels.maxsim import maxsim_arrays

    sample = documents.values[:: max(1, documents.n_tokens // 4096)]
    digest = hashlib.sha256(sample.tobytes() + documents.offsets.tobytes() + bytes([k]))
    for queries in groups.values():
        digest.update(b"".join(query.tobytes() for query in queries))
    path = documents.folder / f"exact-{digest.hexdigest()[:16]}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return {name: [(set(a), set(b)) for a, b in found] for name, found in kept.items()}
    some = documents.offsets[:1001]
    query, values = next(iter(groups.values()))[0], documents.values[: some[-1]]
    wanted = [float((values[a:b].astype(np.float32) @ query.T).max(0).sum()) for a, b in _pairs(some)]
    assert np.allclose(maxsim_arrays(query, values, some), wanted, atol=1e-3)
    start, found = time.perf_counter(), {}
    for name, queries in groups.items():
        found[name] = [
            tied(maxsim_arrays(query, documents.values, documents.offsets), k) for query in queries
        ]
        print(f"exact answers, {name}: after {time.perf_counter() - start:.0f} s", flush=True)
    path.write_text(json.dumps({name: [[sorted(a), sorted(b)] for a, b in found[name]] for name in found}))
    return found


def _pairs(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    return ((int(a), int(b)) for a, b in pairwise(offsets) if b > a)


def tied(scores: np.ndarray, k: int) -> tuple[set[int], set[int]]:
    """The first of all, and the first k, each with what scores the same as its last."""
    order = best(scores, k)
    return tuple(  # type: ignore[return-value]
        set(np.flatnonzero(scores >= scores[i] - TIE * abs(scores[i])).tolist())
        for i in (order[0], order[-1])
    )
