"""How fast are tokens assigned to centroids, and how often to the right one, beside NumPy sgemm + argmax?

Token vectors of real text (the standard library's docstrings, encoded by the starter), repeated with a
little noise to the size asked for; centroids are drawn from them, and moved by k-means where there are many.
Of many centroids the search in two levels is compared with the one that looks at all: tokens a second, the
share of tokens that are given the very nearest, and what others lose.
"""

from __future__ import annotations

import json
import time

import numpy as np

from harness import arguments, child, read_stdlib, record
from latebolt import Encoder
from latebolt.codec.grouping import grouped
from latebolt.codec.kmeans import spherical_kmeans
from latebolt.kernels.centroids import centroid_levels, nearest
from latebolt.kernels.groups import nearest_grouped

BLOCK = 2048
ASKED = 200_000  # tokens of a search among many centroids


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


def levels_of(threads: int, n: int, counts: list[int]) -> list[dict[str, object]]:
    """One row a number of centroids and way to search them."""
    values = tokens(n, threads)
    rows: list[dict[str, object]] = []
    for k in counts:
        centroids = spherical_kmeans(values, k, iterations=2)
        asked = values[np.random.default_rng(2).choice(n, min(n, ASKED), replace=False)]
        dots = np.empty(len(asked), np.float32)
        expected = np.empty(len(asked), np.int64)
        for i in range(0, len(asked), BLOCK):
            table = asked[i : i + BLOCK] @ centroids.T
            expected[i : i + BLOCK], dots[i : i + BLOCK] = table.argmax(1), table.max(1)
        ways = {"all": (centroid_levels, nearest), "two levels": (grouped, nearest_grouped)}
        for way, (prepare, find) in ways.items():
            find(asked[:100], prepare(centroids[:2000]), threads)  # compiled before it is timed
            start = time.perf_counter()
            prepared = prepare(centroids)
            prepared_s = time.perf_counter() - start
            start = time.perf_counter()
            found = find(asked, prepared, threads)
            seconds = time.perf_counter() - start
            lost = dots - np.einsum("nd,nd->n", asked, centroids[found])
            # What is timed is right: a wrong centroid is nearly as good.
            assert lost.mean() < 0.01, (way, k, float(lost.mean()))
            rows.append(
                {
                    "tokens": len(asked),
                    "centroids": len(centroids),
                    "threads": threads,
                    "method": f"latebolt, {way}",
                    "seconds": seconds,
                    "tokens/s": len(asked) / seconds,
                    "us a token": 1e6 * seconds / len(asked),
                    "prepared_ms": 1e3 * prepared_s,
                    "agreement": float((found == expected).mean()),
                    "lost_dot": float(lost.mean()),
                }
            )
    return rows


def main() -> None:
    """1.4 M tokens to 8,192 centroids, and 200,000 to 4,096 to 65,536, with 1 and 2 threads."""
    given = arguments(__doc__, tokens=1_400_000, centroids=8192, many="4096,16384,49152,65536", part="both")
    n, k = (5_000, 128) if given.quick else (given.tokens, given.centroids)
    many = "256" if given.quick else given.many
    if given.child and given.part == "levels":
        print(json.dumps(levels_of(given.threads, n, [int(each) for each in many.split(",")])))
        return
    if given.child:
        print(json.dumps(rows_of(given.threads, given.tokens, given.centroids)))
        return
    rows = []
    for threads in (2,) if given.quick else (1, 2):
        rows += child(__file__, ["--tokens", str(n), "--centroids", str(k)], threads)
    for threads in (2,) if given.quick else (1, 2):
        rows += child(__file__, ["--part", "levels", "--tokens", str(n), "--many", many], threads)
    record("kmeans", rows, (), given.quick)


if __name__ == "__main__":
    main()
