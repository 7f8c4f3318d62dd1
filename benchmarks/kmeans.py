"""How fast are tokens assigned to centroids, and how often to the right one, beside NumPy sgemm + argmax?

Token vectors of real text (the standard library's docstrings, encoded by the starter), repeated with a
little noise to the size asked for; centroids are drawn from them.
"""

from __future__ import annotations

import json
import time

import numpy as np

from harness import arguments, child, record
from latebolt import Encoder
from latebolt.corpus.stdlib import read_stdlib
from latebolt.kernels.centroids import centroid_levels, nearest

BLOCK = 8192


def tokens(n: int, threads: int) -> np.ndarray:
    """float32 [n, 128], unit length."""
    texts = [document.text for document in read_stdlib()][: min(1500, n // 100)]
    values = Encoder.load("starter", threads=threads).encode_documents(texts).values
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(values), n)
    noisy = values[rows] + rng.standard_normal((n, values.shape[1]), dtype=np.float32) * 0.02
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def rows_of(threads: int, n: int, k: int) -> list[dict[str, object]]:
    """One row a method."""
    values = tokens(n, threads)
    centroids = values[np.random.default_rng(1).choice(n, k, replace=False)].copy()
    nearest(values[:100], centroid_levels(centroids), threads)  # compiled before it is timed
    start = time.perf_counter()
    found = nearest(values, centroid_levels(centroids), threads)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    expected = np.concatenate([(values[i : i + BLOCK] @ centroids.T).argmax(1) for i in range(0, n, BLOCK)])
    numpy_s = time.perf_counter() - start
    agreement = float((found == expected).mean())
    base = {"tokens": n, "centroids": k, "threads": threads}
    return [
        {**base, "method": "NumPy sgemm + argmax", "seconds": numpy_s, "speed-up": 1.0, "agreement": 1.0},
        {
            **base,
            "method": "latebolt",
            "seconds": ours_s,
            "speed-up": numpy_s / ours_s,
            "agreement": agreement,
        },
    ]


def main() -> None:
    """1.4 M tokens to 8,192 centroids, with 1 and 2 threads."""
    given = arguments(__doc__, tokens=1_400_000, centroids=8192)
    n, k = (5_000, 128) if given.quick else (given.tokens, given.centroids)
    if given.child:
        print(json.dumps(rows_of(given.threads, given.tokens, given.centroids)))
        return
    rows = []
    for threads in (1, 2):
        rows += child(__file__, ["--tokens", str(n), "--centroids", str(k)], threads)
    record("kmeans", rows, (), given.quick)


if __name__ == "__main__":
    main()
