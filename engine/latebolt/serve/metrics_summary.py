"""A summary of `/metrics` for people: requests by kind with their times, the queue, errors.

Pure: takes what the registry has collected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import Metric

VECTOR_PATHS: Final = ("/v1/multi-vector", "/v1/multi-embeddings", "/v1/embeddings")
_KINDS: Final = {
    "/v1/indexes/{name}/search": "search",
    "/v1/rerank": "rerank",
    **dict.fromkeys(VECTOR_PATHS, "vectors"),
    "/v1/indexes/{name}/documents": "documents",
}


def summary(collected: Iterable[Metric]) -> dict[str, Any]:
    """What the page shows, as JSON values; counted since the start, over all processes.

    Returns:
        `requests`: of each kind, `requests`, `p50_ms` and `p95_ms`, which are None without requests; further
        `in_flight`, `queue_texts`, `queue_tokens`, `cache_hits`, `cache_misses`, and `errors` by code.
    """
    buckets: dict[str, Counter[float]] = {kind: Counter() for kind in dict.fromkeys(_KINDS.values())}
    errors: dict[str, int] = {}
    sums: Counter[str] = Counter()
    for metric in collected:
        for sample in metric.samples:
            if sample.name == "latebolt_request_seconds_bucket":
                kind = _KINDS.get(sample.labels["route"])
                if kind is not None:
                    buckets[kind][float(sample.labels["le"])] += int(sample.value)
            elif sample.name == "latebolt_errors_total":
                errors[sample.labels["code"]] = int(sample.value)
            else:
                sums[sample.name] += int(sample.value)
    return {
        "requests": {
            kind: {
                "requests": below[float("inf")],
                "p50_ms": quantile_ms(below, 0.5),
                "p95_ms": quantile_ms(below, 0.95),
            }
            for kind, below in buckets.items()
        },
        "in_flight": sums["latebolt_requests_in_flight"],
        "queue_texts": sums["latebolt_queue_texts"],
        "queue_tokens": sums["latebolt_queue_tokens"],
        "cache_hits": sums["latebolt_cache_hits_total"],
        "cache_misses": sums["latebolt_cache_misses_total"],
        "errors": errors,
    }


def quantile_ms(below: Mapping[float, int], share: float) -> float | None:
    """The time that a share of the requests stayed below; within a bucket they are taken to lie evenly.

    Args:
        below: upper bound in seconds -> requests up to it; the last bound is infinite.
        share: in (0, 1].
    Returns:
        Milliseconds, the highest finite bound where it is more than that, None without requests.
    Source: `histogram_quantile` of Prometheus.
    """
    bounds = sorted(below)
    if not bounds or not below[bounds[-1]]:
        return None
    wanted = share * below[bounds[-1]]
    lower, before = 0.0, 0
    for bound in bounds[:-1]:
        if below[bound] >= wanted:
            return 1e3 * (lower + (bound - lower) * (wanted - before) / (below[bound] - before))
        lower, before = bound, below[bound]
    return 1e3 * lower
