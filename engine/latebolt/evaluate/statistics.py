"""Whether a difference between two rankings is more than chance: paired bootstrap over queries, and Holm.

Pure NumPy: arrays of per-query values in, intervals and p-values out.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals);
Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006 (paired, over queries); Holm, "A
simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float64

RESAMPLES = 10_000
LEVEL = 0.05
LEAST_QUERIES = 10  # below, the bootstrap's own error is larger than what it would tell
_DRAWS = 1 << 22  # made at a time


@dataclass(frozen=True)
class Difference:
    """A mean difference over queries: its 95 % interval, and p, two-sided and corrected.

    p is 1 and nothing significant where there are fewer than LEAST_QUERIES queries.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether p is below LEVEL."""
        return self.p < LEVEL

    @property
    def mark(self) -> str:
        """ "+" significantly better, "-" significantly worse, "" neither."""
        return ("+" if self.mean > 0 else "-") if self.significant else ""


def resampled_means(values: Float64, resamples: int = RESAMPLES, seed: int = 0) -> Float64:
    """Means over queries drawn with replacement, the same draws for every column.

    Args:
        values: float64 [n_queries >= 1, n_columns].
    Returns:
        float64 [resamples, n_columns].
    """
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    block = max(1, _DRAWS // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        draws = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n)
        means[start : start + size] = counts @ values / n
    return means


def paired_differences(
    differences: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> list[Difference]:
    """One family of comparisons, whose p-values are corrected together.

    p is twice the smaller share of resampled means on either side of 0; a share counts one resample more than
    were seen, so that p is never 0.

    Args:
        differences: [n_queries >= 1, n_comparisons], this one's value minus the other's, a row a query.
    """
    values = np.asarray(differences, np.float64)
    n, width = values.shape
    if not width:
        return []
    means = resampled_means(values, resamples, seed)
    # A mean of equal numbers may miss their value by a rounding, and 0 must count for both sides.
    means[np.abs(means) < 1e-12] = 0.0
    low, high = np.quantile(means, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    below, above = ((means <= 0).sum(axis=0) + 1), ((means >= 0).sum(axis=0) + 1)
    p = np.minimum(1.0, 2 * np.minimum(below, above) / (resamples + 1))
    corrected = holm(p.tolist()) if n >= LEAST_QUERIES else [1.0] * width
    return [
        Difference(float(values[:, i].mean()), float(low[i]), float(high[i]), corrected[i])
        for i in range(width)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number: the chance of one false mark in the family stays below LEVEL."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, most = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = most
    return corrected
